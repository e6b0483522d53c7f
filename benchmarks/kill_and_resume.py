"""Kills a training again and again, and holds what it becomes against one that was left alone.

    python -m benchmarks.kill_and_resume --signal KILL --out kill.json
    python -m benchmarks.kill_and_resume --signal TERM --out term.json
    python -m benchmarks.kill_and_resume --soak 45 --out soak.json

A tiny network on a small `shapes`, by the command that users type, in processes of their own. The
moments are random: while it starts, while it trains, and while it writes a checkpoint. Compared are
all numbers of the last checkpoint, bit for bit, every line of metrics.jsonl but the speeds, what
TensorBoard would show, and the evaluations; and nothing may lie in the workdir that does not belong
there. The soak trains, evaluates and saves for so long, is killed at random, and looks at the
process's memory.
"""

import argparse
import json
import os
import random
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from tensorboardX.proto.event_pb2 import Event

import tfds_refcoco
from benchmarks import machine
from lts_jax.checkpointing import Checkpoints
from tfds_refcoco.shapes import generate

SAMPLE_S = 5.0
PACKAGES = ("jax", "orbax-checkpoint", "grain")
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
SPEEDS = ("train/steps_per_second", "train/sentences_per_second")
BELONGS = re.compile(
    r"(eval/\w+/)?\.lock|run\.json|metrics\.jsonl|tensorboard/events\.out\.tfevents\.[^/]+|checkpoints/\d+/.+"
    r"|eval/\w+/(metrics|predictions|analysis|run)\.json|eval/\w+/(gallery\.png|heatmaps\.npz)"
)


class Life:
    """A process of the training, with what it says in a file."""

    def __init__(self, command: Sequence[str], log: Path):
        self._log, self._from = log, log.stat().st_size if log.exists() else 0
        self._start = time.monotonic()
        with log.open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)

    @property
    def age(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._start

    @property
    def said(self) -> str:
        """What it has said."""
        return self._log.read_bytes()[self._from :].decode(errors="replace")

    def wait_for(self, text: str) -> bool:
        """Waits until it says so; False where it ends before."""
        while text not in self.said:
            if self.ended_after(0.05):
                return False
        return True

    def ended_after(self, seconds: float) -> bool:
        """Waits; returns early, and True, when it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def end(self, number: int | None = None) -> tuple[int, float]:
        """Sends a signal, waits for the end; returns the exit status and the seconds it took."""
        start = time.monotonic()
        if number is not None:
            self._process.send_signal(number)
        return self._process.wait(), time.monotonic() - start

    def memory(self) -> float:
        """Resident memory, MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def kill_and_resume(folder: Path, number: int, kills: int, rng: random.Random) -> dict[str, Any]:
    """Trains once undisturbed and once with so many signals; returns what was seen."""
    fields = {"train.epochs": 60.0, "train.drop_epochs": "(50.0,)", "eval.every_epochs": 12.0}
    whole, often = folder / "whole", folder / "often"
    start = time.monotonic()
    status, _ = Life(command(folder, whole, fields), folder / "whole.txt").end()
    if status:
        raise SystemExit((folder / "whole.txt").read_text())
    seconds = time.monotonic() - start
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    longest = min(8.0, seconds / kills)  # a signal after each, so that all fit into the run
    told: list[dict[str, Any]] = []
    while len(told) < kills:
        life = Life(command(folder, often, fields | {"checkpoint.every_minutes": 0.02}), log(often))
        moment = rng.choice(["starting", "training", "saving", "saving"])
        alive = True
        if moment == "starting":
            alive = not life.ended_after(rng.uniform(0, 12))
        else:
            alive = life.wait_for("first step in")
            alive = alive and not life.ended_after(rng.uniform(0, longest))
            while alive and moment == "saving" and not saving(often):
                alive = not life.ended_after(0.001)
            alive = alive and not life.ended_after(rng.uniform(0, 0.1))
        if not alive:
            life.end()
            raise SystemExit(f"it ended before {kills} signals fitted in:\n{life.said[-2000:]}")
        status, took = life.end(number)
        told.append({"moment": moment, "status": status, "seconds": took, "age": life.age})
        print(f"{len(told)}: {moment}, status {status} after {took:.1f} s", flush=True)
    status, _ = Life(command(folder, often, fields), log(often)).end()
    if status:
        raise SystemExit(log(often).read_text()[-2000:])
    text = log(often).read_text()
    result = compare(whole, often) | {
        "undisturbed_seconds": seconds,
        "processes": text.count("devices: "),
        "resumed_from": [int(step) for step in re.findall(r"resumed from step (\d+)", text)],
        "signals": told,
    }
    expected = -number if number == signal.SIGKILL else 0
    result["statuses_as_expected"] = all(t["status"] == expected for t in told)
    result["slowest_end_seconds"] = max(t["seconds"] for t in told)
    return result


def soak(folder: Path, minutes: float, rng: random.Random) -> dict[str, Any]:
    """Trains for so many minutes with random kills; returns the memory over time."""
    fields = {
        "train.epochs": 1e6,
        "train.drop_epochs": "()",
        "eval.every_epochs": 100.0,
        "checkpoint.every_minutes": 0.25,
    }
    often = folder / "often"
    start = time.monotonic()
    lives: list[dict[str, Any]] = []
    taken, last = 0, False
    while not last:
        # By turns short, and long enough for ten minutes to be the beginning.
        length = 60 * (rng.uniform(12, 16) if len(lives) % 2 == 0 else rng.uniform(0.5, 4))
        life = Life(command(folder, often, fields), log(often))
        samples: list[list[float]] = []
        while len(samples) * SAMPLE_S < length and not last:
            if life.ended_after(SAMPLE_S):
                raise SystemExit(f"it ended by itself:\n{life.said[-2000:]}")
            samples.append([round(time.monotonic() - start, 1), round(life.memory(), 1)])
            taken += 1
            last = taken * SAMPLE_S >= 60 * minutes
        status, took = life.end(signal.SIGTERM if last else signal.SIGKILL)
        lives.append({"status": status, "end_seconds": took, "samples": samples})
        print(f"life {len(lives)}: {life.age:.0f} s, status {status}, {samples[-1]}", flush=True)
    text = log(often).read_text()
    lines = [json.loads(line) for line in (often / "metrics.jsonl").read_text().splitlines()]
    return {
        "minutes": minutes,
        "steps": lines[-1]["step"],
        "evaluations": sum("val/oiou" in line for line in lines),
        "saves_resumed_from": [int(x) for x in re.findall(r"resumed from step (\d+)", text)],
        "log_has_each_step_once": each_once(lines),
        "stray_files": stray_files(often),
        "memory_mib": memory(lives),
        "lives": lives,
    }


def memory(lives: list[dict[str, Any]]) -> dict[str, Any]:
    """Growth after the first ten minutes: of each long life, and of all of them together.

    Medians of a minute, as an evaluation comes and goes. Minutes are counted by samples, and so do
    not pass while this machine stands still.
    """
    minute, ten_minutes = round(60 / SAMPLE_S), round(600 / SAMPLE_S)

    def median(samples: list[list[float]]) -> float:
        return statistics.median(memory for _, memory in samples)

    growths = [
        median(life["samples"][-minute:])
        / median(life["samples"][ten_minutes - minute : ten_minutes])
        - 1
        for life in lives
        if len(life["samples"]) >= ten_minutes + minute
    ]
    everything = [memory for life in lives for _, memory in life["samples"]]
    early, late = max(everything[:ten_minutes]), max(everything[ten_minutes:], default=0.0)
    return {
        "growth_of_long_lives": growths,
        "peak_first_ten_minutes": early,
        "peak_after": late,
        "growth_of_peak": late / early - 1,
    }


def command(folder: Path, workdir: Path, fields: dict[str, Any]) -> list[str]:
    """The training's command."""
    fields = TINY | {"data.dir": folder / "data"} | fields
    return [
        sys.executable,
        *("-m", "lts_jax.main", "--config=configs/shapes.py", f"--workdir={workdir}"),
        *(f"--config.{name}={value}" for name, value in fields.items()),
    ]


def log(workdir: Path) -> Path:
    """Where the lives of a workdir say what they do."""
    return workdir.with_suffix(".txt")


def saving(workdir: Path) -> bool:
    """Whether a checkpoint is being written."""
    return any((workdir / "checkpoints").glob("*orbax-checkpoint-tmp*"))


def compare(a: Path, b: Path) -> dict[str, Any]:
    """Holds two finished runs against each other."""
    (step_a, leaves_a), (step_b, leaves_b) = last_state(a), last_state(b)
    same = [x.tobytes() == y.tobytes() for x, y in zip(leaves_a, leaves_b, strict=True)]
    lines_a, lines_b = scalars(a), scalars(b)
    names = sorted(p.relative_to(a) for p in a.glob("eval/*/*.json") if p.name != "run.json")
    return {
        "last_step": [step_a, step_b],
        "arrays": len(same),
        "numbers": sum(x.size for x in leaves_a),
        "final_state_bit_for_bit": step_a == step_b and all(same),
        "log_lines": len(lines_a),
        "log_has_each_step_once": each_once(lines_b),
        "logs_equal": lines_a == lines_b,
        "tensorboard_equal": shown(a) == shown(b) and len(shown(a)) > 0,
        "evaluations_equal": all((a / n).read_bytes() == (b / n).read_bytes() for n in names),
        "evaluation_files": len(names),
        "stray_files": stray_files(b),
    }


def last_state(workdir: Path) -> tuple[int, list[np.ndarray]]:
    """The arrays of the newest checkpoint."""
    with Checkpoints(workdir) as checkpoints:
        step = checkpoints.latest_step
    state = ocp.StandardCheckpointer().restore(workdir / "checkpoints" / str(step) / "state")
    return step or 0, [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def scalars(workdir: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without the speeds."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in SPEEDS} for line in lines]


def each_once(lines: list[dict[str, float]]) -> bool:
    """Whether no quantity was logged twice at a step, and steps never go back."""
    told = [(line["step"], key) for line in lines for key in line if key != "step"]
    steps = [line["step"] for line in lines]
    return len(told) == len(set(told)) and steps == sorted(steps)


def shown(workdir: Path) -> list[tuple[int, str, float]]:
    """What TensorBoard shows: a file's START event takes back the steps from its own on."""
    values: list[tuple[int, str, float]] = []
    for path in sorted((workdir / "tensorboard").iterdir()):
        data, place = path.read_bytes(), 0
        while place + 12 <= len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            if place + 16 + length > len(data):
                break  # cut off by a kill
            event = Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length
            if event.HasField("session_log"):
                values = [value for value in values if value[0] < event.step]
            found = [(event.step, v.tag, v.simple_value) for v in event.summary.value]
            values += [value for value in found if value[1] not in SPEEDS]
    return sorted(values)


def stray_files(workdir: Path) -> list[str]:
    """Files that no run should leave."""
    names = (path.relative_to(workdir) for path in workdir.rglob("*") if path.is_file())
    return sorted(str(name) for name in names if not BELONGS.fullmatch(str(name)))


def main() -> None:
    """Runs what the flags say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--soak", type=float, help="minutes; instead of the comparison")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--keep", type=Path, help="folder of the runs; a temporary one if absent")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.keep or Path(temporary)
        (folder / "tmp").mkdir(parents=True)
        os.environ["TMPDIR"] = str(folder / "tmp")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "xla")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        generate(folder / "raw", scenes={"train": 24, "val": 6, "testA": 4, "testB": 3})
        tfds_refcoco.build("shapes", folder / "data", folder / "raw", progress=False)
        built = set((folder / "tmp").iterdir())
        result: dict[str, Any] = {"arguments": sys.argv[1:]} | machine.describe(PACKAGES)
        if given.soak:
            result |= soak(folder, given.soak, rng)
        else:
            number = signal.Signals[f"SIG{given.signal}"]
            result |= kill_and_resume(folder, number, given.kills, rng)
        result["left_in_tmpdir"] = sorted(p.name for p in set((folder / "tmp").iterdir()) - built)
    given.out.write_text(json.dumps(result, indent=1) + "\n")
    brief = {k: v for k, v in result.items() if k not in ("signals", "lives")}
    print(json.dumps(brief, indent=1))


if __name__ == "__main__":
    main()
