"""Communication between the processes of a run."""

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

WAIT_S = 300.0  # for all processes to join

T = TypeVar("T")


def check_address(coordinator: str, processes: int, process: int) -> None:
    """Raises ConfigError if the arguments of `join_processes` are invalid."""
    if not 0 <= process < processes or not re.fullmatch(r".+:\d+", coordinator):
        raise ConfigError(
            f"--coordinator={coordinator} --num_processes={processes} --process_id={process}: "
            "--coordinator must be host:port, and --process_id from 0 to --num_processes - 1"
        )


def join_processes(coordinator: str, processes: int, process: int) -> None:
    """Joins a distributed run; must be called before a device is used.

    Args:
      coordinator: host:port on which process 0 listens.
      processes: number of processes.
      process: index of this process, from 0.

    Raises:
      ConfigError: an argument is invalid, or a process did not join in time.
    """
    check_address(coordinator, processes, process)
    logger.info("process %d of %d: waiting for the others at %s", process, processes, coordinator)
    meet(coordinator, processes, process, WAIT_S)
    with _at_most(WAIT_S):
        jax.distributed.initialize(
            coordinator, processes, process, initialization_timeout=int(2 * WAIT_S) + 1
        )


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Exits with a one-line error if the block takes longer: JAX would dump its threads."""

    def end() -> None:
        print(
            f"error: the processes of the run did not all join within {seconds:.0f} s; check the "
            "output of the other processes",
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


def join_detected_processes() -> None:
    """Joins a run that JAX detects: on TPU VMs, or under SLURM, Open MPI or Kubernetes.

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID take precedence.

    Raises:
      ConfigError: no run was detected, or a process did not join in time.
    """
    # JAX itself reads only the address.
    numbers: dict[str, int | None] = {"JAX_NUM_PROCESSES": None, "JAX_PROCESS_ID": None}
    for name in numbers.keys() & os.environ.keys():
        if not os.environ[name].isdecimal():
            raise ConfigError(f"{name}={os.environ[name]} must be an integer of at least 0")
        numbers[name] = int(os.environ[name])
    processes, process = numbers.values()
    coordinator = os.environ.get("JAX_COORDINATOR_ADDRESS")
    if coordinator and processes is not None and process is not None:
        join_processes(coordinator, processes, process)
        return
    if detected := _detect_processes(coordinator, processes, process):
        coordinator, processes, process = detected
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
            f"--distributed=auto: {error} No TPU VM, SLURM, Open MPI or Kubernetes environment was "
            "detected: set --coordinator, --num_processes and --process_id"
        ) from error


def _detect_processes(
    coordinator: str | None, processes: int | None, process: int | None
) -> tuple[str, int, int] | None:
    """Returns the address, the number of processes and this one's index, or None if undetected.

    JAX detects the arguments that are None. It has no public function for this: if a version of
    JAX changes it, `meet` is skipped, and missing processes are not named.
    """
    try:
        from jax._src.clusters import ClusterEnv

        detected = ClusterEnv.auto_detect_unset_distributed_params(
            coordinator, processes, process, None, None, int(WAIT_S)
        )
        coordinator, processes, process = detected[:3]
    except Exception as error:
        logger.debug("JAX's detection of processes: %r", error)
        return None
    if coordinator is None or processes is None or process is None:
        return None
    return coordinator, processes, process


@contextlib.contextmanager
def in_first_process(context: contextlib.AbstractContextManager[object]) -> Iterator[None]:
    """Enters a context in the first process; an error there is raised on all processes."""
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
    # The message may include a file name that is not UTF-8.
    messages = gather_bytes(message.encode(errors="surrogatepass"))
    return next(filter(None, messages), b"").decode(errors="surrogatepass")


def check_same_on_all(values: Mapping[str, Any]) -> None:
    """Raises ConfigError on all processes if their values differ.

    Args:
      values: JSON-serializable values, by name.
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
                f"the processes have different settings:\n{listed}\n"
                "Start all of them with the same arguments, data and files."
            )


def check_shared(folder: Path) -> None:
    """Raises ConfigError unless all processes see the same existing folder."""
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
            f"{folder}: process {', '.join(blind)} cannot see the files of process 0. Set "
            "--workdir to a folder that all machines share"
        )


def one_after_another(make: Callable[[], T]) -> T:
    """Calls a function in the first process, then in the others, which can reuse its files."""
    if jax.process_count() == 1:
        return make()
    if jax.process_index() > 0:
        multihost_utils.sync_global_devices("first")
    try:
        return make()
    finally:  # also after an error, so that the others continue and fail with the same error
        if jax.process_index() == 0:
            multihost_utils.sync_global_devices("first")


def sum_over_processes(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sums arrays of at most 32-bit types over the processes, by name.

    An array that a process lacks counts as zeros, so that all processes take part in every sum.
    """
    if jax.process_count() == 1:
        return arrays
    mine = json.dumps({k: (v.shape, v.dtype.str) for k, v in arrays.items()})
    kinds: dict[str, tuple[list[int], str]] = {}
    for of_process in gather_bytes(mine.encode()):
        kinds |= json.loads(of_process)
    filled = {k: arrays.get(k, np.zeros(shape, dtype)) for k, (shape, dtype) in kinds.items()}
    gathered = multihost_utils.process_allgather(filled)
    return {k: np.asarray(v).sum(axis=0, dtype=filled[k].dtype) for k, v in gathered.items()}


def gather_bytes(data: bytes) -> list[bytes]:
    """Returns the data of every process, ordered by process, on all processes."""
    if jax.process_count() == 1:
        return [data]
    lengths = np.asarray(multihost_utils.process_allgather(np.int32(len(data)))).reshape(-1)
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(data)] = np.frombuffer(data, np.uint8)
    gathered = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:n].tobytes() for row, n in zip(gathered, lengths, strict=True)]
