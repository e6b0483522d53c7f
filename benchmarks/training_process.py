"""Runs a training in a separate process, with a tiny network on a small `shapes` dataset."""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TINY = {
    "data.image_size": 64,
    "data.threads": 1,
    "model.embed_dim": 16,
    "model.gru_features": 16,
    "model.backbone_width": 4,
    "model.fused_features": 16,
    "model.segmenter_features": 8,
    "train.batch_size": 8,
    "train.sentences_per_image": 1,
    "train.log_every": 7,
    "eval.gallery": 2,
    "eval.batch_size": 16,
}


class Life:
    """A training process, with its output in a file."""

    def __init__(self, command: Sequence[str], log: Path):
        self._log, self._from = log, log.stat().st_size if log.exists() else 0
        self._start = time.monotonic()
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    @property
    def age(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def output(self) -> str:
        """Everything that the process has printed."""
        return self._log.read_bytes()[self._from :].decode(errors="replace")

    def wait_for(self, text: str) -> bool:
        """Waits until the process prints a text; returns False if it exits first."""
        while text not in self.output:
            if self.ended_after(0.05):
                return False
        return True

    def ended_after(self, seconds: float) -> bool:
        """Waits for `seconds`; returns True early if the process has exited."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, number: int | None = None) -> tuple[int, float]:
        """Sends a signal and waits for the exit; returns the exit status and the seconds."""
        start = time.monotonic()
        if number is not None:
            self._process.send_signal(number)
        return self._process.wait(), time.monotonic() - start

    def memory(self) -> float:
        """Resident memory, MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def command(folder: Path, workdir: Path, fields: dict[str, Any]) -> list[str]:
    """Returns the command that starts the training."""
    fields = TINY | {"data.dir": folder / "data"} | fields
    return [
        sys.executable,
        *("-m", "lts_jax", "train", "--config=shapes", f"--workdir={workdir}"),
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


def log(workdir: Path) -> Path:
    """Returns the file with the output of a workdir's processes."""
    return workdir.with_suffix(".txt")


def saving(workdir: Path) -> bool:
    """Returns whether a checkpoint is being written."""
    return any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))
