"""Waits until all processes of a run have started, before JAX initializes.

If a process is missing, JAX aborts with SIGABRT and a thread dump and does not name it. The
processes therefore meet first on the coordinator's port, which is free until JAX uses it.
"""

import contextlib
import json
import os
import socket
import time

from lts_jax.errors import ConfigError

_PATIENCE_S = 5.0  # timeout for a line from a connected process
_RETRY_S = 0.2
_ALL = "all"


def meet(coordinator: str, processes: int, process: int, wait_s: float) -> None:
    """Blocks until all processes have connected.

    Args:
      coordinator: host:port on which process 0 listens.
      processes: number of processes.
      process: index of this process, from 0.
      wait_s: timeout in seconds.

    Raises:
      ConfigError: a process did not connect in time, or the processes disagree on their number.
    """
    if processes == 1:
        return
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + wait_s
    if process == 0:  # on the port on which JAX will listen
        bound = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", coordinator)
        _accept_all(int(bound.rpartition(":")[2]), processes, deadline, wait_s)
    else:
        _connect(host.strip("[]"), int(port), processes, process, deadline, wait_s)


def _accept_all(port: int, processes: int, deadline: float, wait_s: float) -> None:
    """In process 0, waits for the other processes and sends each of them the outcome."""
    present: dict[int, socket.socket] = {}
    connections: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(_listen(port))
        except OSError as error:
            raise ConfigError(
                f"--coordinator: cannot listen on port {port} ({error.strerror}): if another run "
                "uses it, choose another port"
            ) from error
        outcome = _ALL
        while outcome == _ALL and len(present) < processes - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = sorted(set(range(1, processes)) - present.keys())
                outcome = (
                    f"{_names(missing)} of {processes} did not connect within {wait_s:.0f} s: "
                    "start them with the same coordinator and number of processes; if they were "
                    "started, check their output"
                )
                break
            stack.enter_context(connection)
            try:
                process, expected = _read(connection)
            except (OSError, ValueError, TypeError):
                continue  # not a process of this run
            if expected != processes or not 0 < process < processes:
                outcome = (
                    f"process 0 was started with --num_processes={processes}, another one with "
                    f"--num_processes={expected} --process_id={process}: use the same "
                    "--num_processes for all, and --process_id below it"
                )
            elif process in present and _is_open(present[process]):
                outcome = (
                    f"two processes were started with --process_id={process}: give each process "
                    "its own index"
                )
            present[process] = connection
            connections.append(connection)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(f"{outcome}\n".encode())
                connection.recv(1)  # the peer closes first, so that the port is free immediately
    if outcome != _ALL:
        raise ConfigError(outcome)


def _connect(
    host: str, port: int, processes: int, process: int, deadline: float, wait_s: float
) -> None:
    """Connects to process 0 and waits for the outcome."""
    outcome, why = "", ""
    while not outcome and time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=_PATIENCE_S) as connection:
                connection.sendall(json.dumps([process, processes]).encode() + b"\n")
                # Process 0 reports missing processes shortly after its own deadline.
                connection.settimeout(max(1.0, deadline - time.monotonic() + _PATIENCE_S))
                outcome = connection.makefile(encoding="utf-8").readline().strip()
        except (OSError, ValueError) as error:
            why = f" ({error})"
        if not outcome:
            time.sleep(_RETRY_S)
    if not outcome:
        raise ConfigError(
            f"process 0 of {processes} did not answer at {host}:{port} within {wait_s:.0f} s{why}: "
            "check that it was started, and --coordinator"
        )
    if outcome != _ALL:
        raise ConfigError(outcome)


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _read(connection: socket.socket) -> tuple[int, int]:
    """Reads the line of a process: its index and its `--num_processes`."""
    connection.settimeout(_PATIENCE_S)
    process, processes = map(int, json.loads(connection.makefile("rb").readline(100)))
    return process, processes


def _is_open(connection: socket.socket) -> bool:
    """Returns whether the other side has not closed the connection."""
    connection.settimeout(0.01)
    try:
        return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def _names(missing: list[int]) -> str:
    listed = ", ".join(map(str, missing[:20])) + (", …" if len(missing) > 20 else "")
    return f"process {listed}" if len(missing) == 1 else f"processes {listed}"
