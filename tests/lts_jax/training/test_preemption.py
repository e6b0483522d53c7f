"""Signals sent to real processes."""

import re
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from lts_jax.training import preemption
from lts_jax.training.preemption import Pace, Stop, Turn

START = (
    "import os, time; from lts_jax.io.console import configure_logging; configure_logging();"
    "from lts_jax.training.preemption import Stop; stop = Stop(); stop.listen();"
)
# Runs C code for minutes, like a compilation, during which Python runs no handler.
BUSY = "print('go', flush=True); import hashlib; hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"


def python(repo_root, code):
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=repo_root,
        stdout=subprocess.PIPE,
        text=True,
        # Signals that are ignored at startup stay ignored, like Ctrl-C in background jobs.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def test_process_exits_immediately_unless_it_must_save(repo_root, tmp_path):
    saving = f"stop.evaluating(lambda: not os.path.exists({str(tmp_path / 'saved')!r}));"
    cases = [  # code, signals, exit status, message
        (BUSY, [signal.SIGTERM], 0, "nothing left to save; rerun the same command to resume"),
        (BUSY, [signal.SIGINT], 130, "nothing left to save"),
        (f"stop.training(); {BUSY}", [signal.SIGTERM, signal.SIGTERM], 143, "SIGTERM: saving"),
        (saving + BUSY, [signal.SIGTERM], 0, "SIGTERM: saving"),
    ]
    processes = [python(repo_root, START + code) for code, *_ in cases]
    for process, (_, signals, status, message) in zip(processes, cases, strict=True):
        assert process.stdout.readline() == "go\n"
        for number in signals:
            process.send_signal(number)
            time.sleep(0.3)
        if process is processes[-1]:
            assert process.poll() is None
            (tmp_path / "saved").touch()
        out, _ = process.communicate(timeout=20)
        assert process.returncode == status
        assert message in out


def test_it_saves_by_time_and_stops_on_request(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(preemption.time, "monotonic", lambda: clock.now)
    stop = Stop()
    pace, never = Pace(stop, 2.0), Pace(stop, 0.0)
    clock.now = 119.0
    assert pace.after(1) == Turn(False, False)
    clock.now = 121.0
    assert pace.after(2) == Turn(True, False)
    pace.saved()
    assert pace.after(3) == Turn(False, False)
    clock.now = 1e9
    assert never.after(4) == Turn(False, False)
    stop.signal = signal.SIGTERM
    assert never.after(5) == Turn(False, True)
    assert stop.exit_status == 0


@pytest.mark.slow
@pytest.mark.parametrize("signalled", [0, 1])
def test_processes_stop_and_save_after_the_same_step(repo_root, signalled):
    """One of two processes receives a signal; only the first one saves by time."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    code = """
import os, signal, sys, time
import jax
from lts_jax.training import preemption
me, signalled = int(sys.argv[1]), int(sys.argv[2])
jax.config.update("jax_enable_preemption_service", False)
jax.distributed.initialize("localhost:{port}", 2, me)
preemption.AGREE_S = 0.05
stop = preemption.Stop()
stop.listen()
stop.training()
pace = preemption.Pace(stop, 0.002 if me == 0 else 0)
for step in range(1, 10000):
    time.sleep(0.01)
    if step == 40 and me == signalled:
        os.kill(os.getpid(), signal.SIGTERM)
    turn = pace.after(step)
    if turn.save:
        print("save", step)
        pace.saved()
    if turn.stop:
        break
print("stop", step, flush=True)
"""
    command = [sys.executable, "-c", code.replace("{port}", str(port))]
    processes = [
        subprocess.Popen([*command, str(me), str(signalled)], cwd=repo_root, stdout=subprocess.PIPE)
        for me in (0, 1)
    ]
    first, second = (p.communicate(timeout=120)[0].decode() for p in processes)
    kept = [re.findall(r"^(?:save|stop) \d+$", out, re.M) for out in (first, second)]
    assert kept[0] == kept[1]
    assert len(kept[0]) > 2 and 40 <= int(kept[0][-1].split()[1]) < 1000
