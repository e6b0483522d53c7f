"""Missing and conflicting processes at the start of a distributed run."""

import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lts_jax.distributed.rendezvous import meet
from lts_jax.errors import ConfigError


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def outcomes(port, *calls, wait_s=2.0):
    """Calls `meet(processes, process)` in threads; returns the errors, "" if there is none."""

    def one(call):
        try:
            meet(f"localhost:{port}", *call, wait_s)
        except ConfigError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(one, calls))


def test_all_connect_and_release_the_port(port):
    assert outcomes(port, (3, 2), (3, 0), (3, 1), wait_s=30.0) == [""] * 3
    assert outcomes(port, (2, 0), (2, 1), wait_s=30.0) == [""] * 2
    meet("nowhere:1", 1, 0, 0.0)  # a single process


def test_missing_processes_are_named(port):
    messages = outcomes(port, (4, 0), (4, 2))
    assert messages == [messages[0]] * 2
    assert messages[0].startswith("processes 1, 3 of 4 did not connect within 2 s: start them with")
    (message,) = outcomes(port, (2, 0))
    assert message.startswith("process 1 of 2 did not connect within 2 s: start")
    (message,) = outcomes(port, (2, 1), wait_s=0.5)
    assert message.startswith("process 0 of 2 did not answer at localhost:")


def test_conflicting_numbers_of_processes(port):
    message = "process 0 was started with --num_processes=2, another one with --num_processes=3"
    assert all(x.startswith(message) for x in outcomes(port, (2, 0), (3, 2), wait_s=30.0))


def test_two_with_one_number(port):
    messages = outcomes(port, (3, 0), (3, 1), (3, 1), wait_s=30.0)
    assert (
        messages
        == ["two processes were started with --process_id=1: give each process its own index"] * 3
    )


def test_unrelated_connections_are_ignored(port):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(outcomes, port, (2, 0), wait_s=30.0)
        for text in (b"GET / HTTP/1.1\n", b"[1]\n", b"[[1], 2]\n"):
            for _ in range(100):
                try:
                    with socket.create_connection(("localhost", port), timeout=9) as stranger:
                        stranger.sendall(text)
                    break
                except OSError:
                    time.sleep(0.05)
        assert outcomes(port, (2, 1), wait_s=30.0) == [""]
        assert first.result() == [""]


def test_a_port_that_is_taken(port):
    with socket.create_server(("", port)):
        (message,) = outcomes(port, (2, 0))
    assert f"cannot listen on port {port} (Address already in use" in message


def by_hand(port):
    return [f"--coordinator=localhost:{port}", "--num_processes=2", "--process_id=0"], {}


def by_slurm(port):
    variables = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_LOCALID": "0"}
    variables |= {"SLURM_NTASKS": "2", "SLURM_PROCID": "0", "JAX_COORDINATOR_PORT": str(port)}
    return ["--distributed=auto"], variables


@pytest.mark.slow
@pytest.mark.parametrize("started", [by_hand, by_slurm])
def test_the_command_ends_in_one_line(repo_root, port, started):
    flags, environment = started(port)
    code = (
        "from lts_jax.distributed import processes; processes.WAIT_S = 1.0\n"
        "from lts_jax.cli.command import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "eval", "--workdir=x", *flags],
        cwd=repo_root,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stderr.startswith("error: process 1 of 2 did not connect within 1 s: ")
    assert done.stderr.count("\n") == 1
    assert done.returncode == 1
