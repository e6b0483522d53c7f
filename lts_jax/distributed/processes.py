"""What the processes of a run do together."""

import contextlib
import json
import logging
import os
import re
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from lts_jax.distributed.rendezvous import meet
from lts_jax.errors import ConfigError

logger = logging.getLogger(__name__)

WAIT_S = 300.0  # for all processes to come

T = TypeVar("T")


def check_address(coordinator: str, processes: int, process: int) -> None:
    """Raises ConfigError where `join_processes` would not understand its arguments."""
    if not 0 <= process < processes or not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(
            f"--coordinator={coordinator} --num_processes={processes} --process_id={process}: "
            "give host:port, how many, and which of them from 0"
        )


def join_processes(coordinator: str, processes: int, process: int) -> None:
    """Makes this one of several processes; before anything else touches a device.

    Args:
      coordinator: host:port at which the first process listens.
      processes: how many.
      process: which of them, from 0.

    Raises:
      ConfigError: an argument makes no sense, or a process has not come in time.
    """
    check_address(coordinator, processes, process)
    logger.info("process %d of %d: waiting for all at %s", process, processes, coordinator)
    meet(coordinator, processes, process, WAIT_S)
    with _at_most(WAIT_S):
        jax.distributed.initialize(
            coordinator, processes, process, initialization_timeout=int(2 * WAIT_S) + 1
        )


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Ends the process by one line if the block takes longer: JAX would dump its threads."""

    def end() -> None:
        print(
            f"error: the processes of the run did not all join within {seconds:.0f} s; the other "
            "ones' output says why",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def join_found_processes() -> None:
    """As `join_processes`, with what JAX finds by itself: TPU VMs, SLURM, Open MPI, Kubernetes.

    The environment's JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID come before it.

    Raises:
      ConfigError: there is nothing to be found, or a process has not come in time.
    """
    # JAX itself reads the address alone.
    numbers: dict[str, int | None] = {"JAX_NUM_PROCESSES": None, "JAX_PROCESS_ID": None}
    for name in numbers.keys() & os.environ.keys():
        if not os.environ[name].isdecimal():
            raise ConfigError(f"{name}={os.environ[name]} is no whole number")
        numbers[name] = int(os.environ[name])
    processes, process = numbers.values()
    coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if coordinator and processes is not None and process is not None:
        join_processes(coordinator, processes, process)
        return
    if found := _find_processes(coordinator, processes, process):
        coordinator, processes, process = found
        meet(coordinator, processes, process, WAIT_S)
    try:
        with _at_most(WAIT_S):
            jax.distributed.initialize(
                coordinator,
                processes,
                process,
                initialization_timeout=int(2 * WAIT_S) + 1,
            )
    except ValueError as error:
        raise ConfigError(
            f"--distributed=auto: {error} Neither a TPU VM nor SLURM, Open MPI or Kubernetes says "
            "who takes part: give --coordinator, --num_processes and --process_id"
        ) from error


def _find_processes(
    coordinator: str | None, processes: int | None, process: int | None
) -> tuple[str, int, int] | None:
    """Returns address, number and own number as JAX finds them where they are None; None if not.

    JAX has no public function for it. If a version has another one, the processes do not meet
    before JAX joins them, and nobody can say which one is missing.
    """
    try:
        from jax._src.clusters import ClusterEnv

        found = ClusterEnv.auto_detect_unset_distributed_params(
            coordinator, processes, process, None, None, int(WAIT_S)
        )
        coordinator, processes, process = found[:3]
    except Exception as error:
        logger.debug("JAX's detection of processes: %r", error)
        return None
    if coordinator is None or processes is None or process is None:
        return None
    return coordinator, processes, process


@contextlib.contextmanager
def in_first_process(context: contextlib.AbstractContextManager[object]) -> Iterator[None]:
    """Enters a context in the first process; an error there is raised in all of them."""
    with contextlib.ExitStack() as stack:
        message, cause = "", None
        if jax.process_index() == 0:
            try:
                stack.enter_context(context)
            except Exception as error:
                message, cause = str(error) or type(error).__name__, error
        if message := first_message(message):
            raise ConfigError(message) from cause
        yield


def first_message(message: str) -> str:
    """Broadcasts the first non-empty message to all processes; "" if there is none."""
    # A message may name a file whose name is not UTF-8.
    messages = gather_bytes(message.encode(errors="surrogatepass"))
    return next(filter(None, messages), b"").decode(errors="surrogatepass")


def check_same_on_all(values: Mapping[str, Any]) -> None:
    """Raises ConfigError on all processes where one of them has other values.

    Args:
      values: what JSON can hold, by name.
    """
    mine = json.dumps(values, sort_keys=True)
    first, *others = (json.loads(of) for of in gather_bytes(mine.encode()))
    for process, other in enumerate(others, start=1):
        names = sorted(k for k in first.keys() | other.keys() if first.get(k) != other.get(k))
        if names:
            listed = "\n".join(
                f"  {name}: {first.get(name, 'absent')} in process 0, "
                f"{other.get(name, 'absent')} in process {process}"
                for name in names
            )
            raise ConfigError(
                f"the processes were not started alike:\n{listed}\n"
                "Give all of them the same arguments, data and files."
            )


def check_shared(folder: Path) -> None:
    """Raises ConfigError where not all processes see the first one's folder, which is there."""
    if jax.process_count() == 1:
        return
    name = gather_bytes(f".seen_by_all.{uuid.uuid4().hex}".encode())[0].decode()
    first = jax.process_index() == 0
    if first:
        (folder / name).touch()
    multihost_utils.sync_global_devices("made a file")
    seen = (folder / name).exists()
    blind = [str(i) for i, of in enumerate(gather_bytes(b"1" if seen else b"0")) if of == b"0"]
    if first:
        (folder / name).unlink()
    if blind:
        raise ConfigError(
            f"{folder}: process {', '.join(blind)} does not see there what process 0 writes. All "
            "need one --workdir: give a folder that the machines share"
        )


def one_after_another(make: Callable[[], T]) -> T:
    """Calls a function in the first process before the others: it may build what they then find."""
    if jax.process_count() == 1:
        return make()
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("first")
    try:
        return make()
    finally:  # an error too lets the others go on, into the same error
        if jax.process_index() == 0:
            multihost_utils.sync_global_devices("first")


def sum_over_processes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Adds up what the processes hold, by name; of at most 32 bits.

    A process that lacks an array holds zeros, so that all of them take part in every sum.
    """
    if jax.process_count() == 1:
        return arrays
    mine = json.dumps({k: (v.shape, v.dtype.str) for k, v in arrays.items()})
    kinds: dict[str, tuple[list[int], str]] = {}
    for of_process in gather_bytes(mine.encode()):
        kinds |= json.loads(of_process)
    whole = {k: arrays.get(k, np.zeros(shape, dtype)) for k, (shape, dtype) in kinds.items()}
    gathered = multihost_utils.process_allgather(whole)
    return {k: np.asarray(v).sum(axis=0, dtype=whole[k].dtype) for k, v in gathered.items()}


def gather_bytes(data: bytes) -> list[bytes]:
    """Returns what each process holds, in their order, on all of them."""
    if jax.process_count() == 1:
        return [data]
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(data)))).reshape(-1)
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:n].tobytes() for row, n in zip(gathered, lengths, strict=True)]
