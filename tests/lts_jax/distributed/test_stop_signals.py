"""Training on two processes that both receive SIGTERM, as when a job is preempted."""

import re
import signal
import socket
import subprocess
import sys
import threading

import pytest

from tests.lts_jax.helpers.recorded import as_flags
from tests.lts_jax.helpers.tiny import leave_little

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]  # each process compiles twice


class Process:
    """A training process whose output is read while it runs."""

    def __init__(self, repo_root, *flags):
        self.output, self._news = "", threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "lts_jax", "train", *flags],
            cwd=repo_root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._news:
                self.output += line
                self._news.notify_all()

    def wait_for(self, text):
        with self._news:
            seen = self._news.wait_for(lambda: text in self.output, timeout=600)
        assert seen and self.process.poll() is None, self.output

    def end(self):
        status = self.process.wait(timeout=200)
        self._reader.join(timeout=60)
        return status


def test_both_save_and_end_and_one_resumes(repo_root, tiny_config_factory, tmp_path):
    config = leave_little(tiny_config_factory())
    config.train.epochs = 2000.0
    config.eval.every_epochs = 2000.0
    flags = ["--config=configs/shapes.py", f"--workdir={tmp_path}/run", *as_flags(config)]
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    several = [f"--coordinator=localhost:{port}", "--num_processes=2"]
    processes = [Process(repo_root, *flags, *several, f"--process_id={k}") for k in (0, 1)]
    try:
        processes[0].wait_for("step 3/")
        for process in processes:
            process.process.send_signal(signal.SIGTERM)
        statuses = [process.end() for process in processes]
        assert statuses == [0, 0], [process.output for process in processes]
        (step,) = re.findall(r"stopped at step (\d+) of \d+ and saved", processes[0].output)
        assert int(step) >= 3
        assert (tmp_path / "run" / "checkpoints" / step).is_dir()
        processes.append(Process(repo_root, *flags))
        processes[2].wait_for(f"resumed from step {step} of")
        processes[2].wait_for("first step in")
        processes[2].process.send_signal(signal.SIGTERM)
        assert processes[2].end() == 0, processes[2].output
        (later,) = re.findall(r"stopped at step (\d+) of \d+ and saved", processes[2].output)
        assert int(later) > int(step)
    finally:
        for process in processes:
            process.process.kill()
