"""Waits until all processes of a run are there, before JAX does.

JAX's own wait ends the process by SIGABRT and a dump of its threads, and does not say who is
missing. So the processes first meet at the coordinator's port, which is free until JAX takes it.
"""

import contextlib
import json
import os
import socket
import time

from lts_jax.errors import ConfigError

_PATIENCE_S = 5.0  # for a line of somebody who has connected
_RETRY_S = 0.2
_ALL = "all"


def meet(coordinator: str, processes: int, process: int, wait_s: float) -> None:
    """Returns, on all processes, once all of them have come.

    Args:
      coordinator: host:port at which the first process listens.
      processes: how many.
      process: which of them, from 0.
      wait_s: seconds to wait.

    Raises:
      ConfigError: a process has not come in time, or they do not agree on how many they are.
    """
    if processes == 1:
        return
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + wait_s
    if process == 0:  # at the port at which JAX will listen
        bound = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", coordinator)
        _call_roll(int(bound.rpartition(":")[2]), processes, deadline, wait_s)
    else:
        _come(host.strip("[]"), int(port), processes, process, deadline, wait_s)


def _call_roll(port: int, processes: int, deadline: float, wait_s: float) -> None:
    """Waits, in the first process, for the others, and tells each of them the outcome."""
    present: dict[int, socket.socket] = {}
    connections: list[socket.socket] = []
    with contextlib.ExitStack() as stack:
        try:
            server = stack.enter_context(_listen(port))
        except OSError as error:
            raise ConfigError(
                f"--coordinator: port {port} cannot be listened at ({error.strerror}): is another "
                "run at work there? Take another port"
            ) from error
        outcome = _ALL
        while outcome == _ALL and len(present) < processes - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = server.accept()
            except TimeoutError:
                missing = sorted(set(range(1, processes)) - present.keys())
                outcome = (
                    f"{_names(missing)} of {processes} did not come within {wait_s:.0f} s: start "
                    "them with the same coordinator and number of processes; if they were started, "
                    "their output says why they ended"
                )
                break
            stack.enter_context(connection)
            try:
                process, told = _read(connection)
            except (OSError, ValueError, TypeError):
                continue  # a stranger
            if told != processes or not 0 < process < processes:
                outcome = (
                    f"process 0 was started with --num_processes={processes}, another one with "
                    f"--num_processes={told} --process_id={process}"
                )
            elif process in present and _is_open(present[process]):
                outcome = f"two processes were started with --process_id={process}"
            present[process] = connection
            connections.append(connection)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(f"{outcome}\n".encode())
                connection.recv(1)  # they close first: the port is free at once
    if outcome != _ALL:
        raise ConfigError(outcome)


def _come(
    host: str, port: int, processes: int, process: int, deadline: float, wait_s: float
) -> None:
    """Tells the first process that this one is there, and waits for the outcome."""
    outcome, why = "", ""
    while not outcome and time.monotonic() < deadline:
        try:
            with socket.create_connection((host, port), timeout=_PATIENCE_S) as connection:
                connection.sendall(json.dumps([process, processes]).encode() + b"\n")
                # The first process says who is missing a moment after its own deadline.
                connection.settimeout(max(1.0, deadline - time.monotonic() + _PATIENCE_S))
                outcome = connection.makefile(encoding="utf-8").readline().strip()
        except (OSError, ValueError) as error:
            why = f" ({error})"
        if not outcome:
            time.sleep(_RETRY_S)
    if not outcome:
        raise ConfigError(
            f"process 0 of {processes} did not come within {wait_s:.0f} s: nobody answers at "
            f"{host}:{port}{why}"
        )
    if outcome != _ALL:
        raise ConfigError(outcome)


def _listen(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))


def _read(connection: socket.socket) -> tuple[int, int]:
    """Reads the line of a process: its number, and how many it was told there are."""
    connection.settimeout(_PATIENCE_S)
    process, processes = map(int, json.loads(connection.makefile("rb").readline(100)))
    return process, processes


def _is_open(connection: socket.socket) -> bool:
    """Whether the other side has not ended."""
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
