"""Kills a training repeatedly and compares the result with an uninterrupted training.

    python -m benchmarks.kill_and_resume --signal KILL --out kill.json
    python -m benchmarks.kill_and_resume --signal TERM --out term.json
    python -m benchmarks.kill_and_resume --soak 45 --out soak.json

A tiny network is trained on a small `shapes` dataset with `lts train`. Signals are sent at random
times during startup, training or checkpointing. The last checkpoints are compared bit for bit, as
are the lines of metrics.jsonl except for speeds, the TensorBoard scalars, and the evaluations;
stray files in the workdir are listed. `--soak N` trains, evaluates and saves for N minutes with
random kills and measures the memory of the process.
"""

import contextlib
import json
import os
import random
import re
import signal
import statistics
import struct
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
from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.training_process import Life, command, log, saving
from lts_jax.io.files import write_json
from lts_jax.state.checkpoint_reader import CheckpointReader
from tfds_refcoco.shapes import generate

SAMPLE_S = 5.0
PACKAGES = ("jax", "orbax-checkpoint", "grain")
SPEEDS = ("train/steps_per_second", "train/sentences_per_second")
BELONGS = re.compile(
    r"(eval/(\w+/)+)?\.lock|run\.json|metrics\.jsonl|tensorboard/(events|pictures)\.out\.tfevents\.[^/]+|checkpoints/\d+/.+"
    r"|eval/(\w+/)+(metrics|predictions|analysis|run)\.json|eval/(\w+/)+(gallery\.png|heatmaps\.npz)"
)


def kill_and_resume(folder: Path, number: int, kills: int, rng: random.Random) -> dict[str, Any]:
    """Trains once uninterrupted and once with `kills` signals and compares the two runs."""
    fields = {"train.epochs": 60.0, "train.drop_epochs": "(50.0,)", "eval.every_epochs": 12.0}
    whole, often = folder / "whole", folder / "often"
    start = time.monotonic()
    status, _ = Life(command(folder, whole, fields), folder / "whole.txt").end()
    if status:
        raise SystemExit((folder / "whole.txt").read_text())
    seconds = time.monotonic() - start
    print(f"uninterrupted: {seconds:.0f} s", flush=True)
    longest = min(
        8.0, seconds / kills
    )  # maximum delay before each signal, so that all fit into the run
    signals: list[dict[str, Any]] = []
    while len(signals) < kills:
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
            raise SystemExit(f"the training ended before {kills} signals:\n{life.output[-2000:]}")
        status, took = life.end(number)
        signals.append({"moment": moment, "status": status, "seconds": took, "age": life.age})
        print(f"{len(signals)}: {moment}, status {status} after {took:.1f} s", flush=True)
    status, _ = Life(command(folder, often, fields), log(often)).end()
    if status:
        raise SystemExit(log(often).read_text()[-2000:])
    text = log(often).read_text()
    result = compare(whole, often) | {
        "undisturbed_seconds": seconds,
        "processes": text.count("devices: "),
        "resumed_from": [int(step) for step in re.findall(r"resumed from step (\d+)", text)],
        "signals": signals,
    }
    expected = -number if number == signal.SIGKILL else 0
    result["statuses_as_expected"] = all(x["status"] == expected for x in signals)
    result["slowest_end_seconds"] = max(x["seconds"] for x in signals)
    return result


def soak(folder: Path, minutes: float, rng: random.Random) -> dict[str, Any]:
    """Trains for `minutes` with random kills; returns the memory over time."""
    fields = {
        "train.epochs": 1e5,
        "train.drop_epochs": "()",
        "eval.every_epochs": 100.0,
        "checkpoint.every_minutes": 0.25,
    }
    often = folder / "often"
    start = time.monotonic()
    lives: list[dict[str, Any]] = []
    taken, last = 0, False
    while not last:
        # Alternate between short processes and ones longer than the ten-minute warm-up.
        length = 60 * (rng.uniform(12, 16) if len(lives) % 2 == 0 else rng.uniform(0.5, 4))
        life = Life(command(folder, often, fields), log(often))
        samples: list[list[float]] = []
        while len(samples) * SAMPLE_S < length and not last:
            if life.ended_after(SAMPLE_S):
                raise SystemExit(f"the training ended by itself:\n{life.output[-2000:]}")
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
    """Returns the growth after the first ten minutes, per long process and overall.

    Medians over a minute are compared, because evaluations use memory only briefly. Minutes are
    counted in samples, so that suspending the machine has no effect.
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


def compare(a: Path, b: Path) -> dict[str, Any]:
    """Compares two finished runs."""
    (step_a, leaves_a), (step_b, leaves_b) = last_state(a), last_state(b)
    same = [x.tobytes() == y.tobytes() for x, y in zip(leaves_a, leaves_b, strict=True)]
    lines_a, lines_b = scalars(a), scalars(b)
    names = sorted(p.relative_to(a) for p in a.glob("eval/**/*.json") if p.name != "run.json")
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
    """Returns the newest checkpoint's step and arrays."""
    with CheckpointReader(workdir) as checkpoints:
        step = checkpoints.steps[-1]
    folder = checkpoints.folder / str(step) / "state"
    with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
        tree = handler.metadata(folder).tree
        as_numpy = ocp.RestoreArgs(
            restore_type=np.ndarray
        )  # restorable without the original devices
        args = ocp.args.PyTreeRestore(
            item=tree, restore_args=jax.tree.map(lambda _: as_numpy, tree)
        )
        state = handler.restore(folder, args=args)
    return step, [np.asarray(leaf) for leaf in jax.tree.leaves(state)]


def scalars(workdir: Path) -> list[dict[str, float]]:
    """Returns the lines of metrics.jsonl without the speeds."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in SPEEDS} for line in lines]


def each_once(lines: list[dict[str, float]]) -> bool:
    """Returns whether no quantity was logged twice at a step and steps never decrease."""
    logged = [(line["step"], key) for line in lines for key in line if key != "step"]
    steps = [line["step"] for line in lines]
    return len(logged) == len(set(logged)) and steps == sorted(steps)


def shown(workdir: Path) -> list[tuple[int, str, float]]:
    """Returns the TensorBoard scalars; a START event removes its step and later ones."""
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
            numbers = [v for v in event.summary.value if v.HasField("simple_value")]
            logged = [(event.step, v.tag, v.simple_value) for v in numbers]
            values += [value for value in logged if value[1] not in SPEEDS]
    return sorted(values)


def stray_files(workdir: Path) -> list[str]:
    """Returns the files that a run should not leave behind."""
    names = (path.relative_to(workdir) for path in workdir.rglob("*") if path.is_file())
    return sorted(str(name) for name in names if not BELONGS.fullmatch(str(name)))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--signal", choices=("KILL", "TERM"), default="KILL")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--soak", type=float, help="soak test for this many minutes, without the comparison"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random times")
    parser.add_argument(
        "--keep", type=Path, help="folder of the runs (default: a temporary folder)"
    )
    args = parse_arguments(parser, arguments)
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary)
        (folder / "tmp").mkdir(parents=True)
        os.environ["TMPDIR"] = str(folder / "tmp")
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder / "xla")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
        generate(folder / "raw", scenes={"train": 24, "val": 6, "testA": 4, "testB": 3})
        tfds_refcoco.build("shapes", folder / "data", folder / "raw", progress=False)
        built = set((folder / "tmp").iterdir())
        result: dict[str, Any] = {"arguments": sys.argv[1:]} | machine.describe(PACKAGES)
        if args.soak:
            result |= soak(folder, args.soak, rng)
        else:
            number = signal.Signals[f"SIG{args.signal}"]
            result |= kill_and_resume(folder, number, args.kills, rng)
        result["left_in_tmpdir"] = sorted(p.name for p in set((folder / "tmp").iterdir()) - built)
    brief = {k: v for k, v in result.items() if k not in ("signals", "lives")}
    print(json.dumps(brief, indent=1))
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
