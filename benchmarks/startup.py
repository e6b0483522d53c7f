"""Seconds from the command to the first batch of a training, in fresh processes.

    python -m benchmarks.startup --data data --out startup.json

Each does what `lts_jax.train.train` does until it has a batch: it imports the same modules, opens
the set, builds the vocabulary, prints the table of the data, describes the run and reads the first
batch. The network is not built: how long it compiles is another question.
"""

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine

PACKAGES = ("jax", "numpy", "grain", "tensorflow-datasets")


def first_batch(data: Path, dataset: str, no_torch: bool) -> dict[str, float]:
    """Returns the seconds of each part; imports what training imports."""
    if no_torch:
        sys.modules["torch"] = None  # type: ignore[assignment]
    clock, parts = time.perf_counter(), {}

    def done(part: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        parts[part], clock = now - clock, now

    from configs.default import get_config
    from lts_jax import checks, experiment, train
    from lts_jax.data import pipeline
    from lts_jax.progress import print_data
    from lts_jax.writers import MetricWriter

    done("imports")
    config = get_config()
    config.data.dir, config.data.dataset = str(data), dataset
    checks.check_config(config)
    opened = experiment.open_data(config)
    split = experiment.train_split(config, opened)
    index = split.index
    done("data set and index")
    vocabulary = train.Vocabulary.build(index.text, config.data.min_count)
    done("vocabulary")
    best = config.eval.best_split
    print_data(opened, {config.data.train_split: split, best: opened.split(best)}, vocabulary)
    done("table of the data")
    experiment.describe_run(config, split, vocabulary)
    done("description of the run, devices")
    with tempfile.TemporaryDirectory() as workdir, MetricWriter(Path(workdir), 0):
        done("metric writer")
    batches = pipeline.train_batches(
        split,
        experiment.make_preprocessing(config, vocabulary),
        batch_size=config.train.batch_size,
        seed=config.seed,
        epoch_unit=config.train.epoch_unit,
        threads=config.data.threads,
    )
    next(iter(batches))
    done("first batch")
    return parts


def benchmark(argv: Sequence[str], repeats: int) -> dict[str, Any]:
    """Starts training in a fresh process so many times, as far as its first batch."""
    runs, loads = [], []
    for _ in range(repeats):
        loads.append(os.getloadavg()[0])
        command = [sys.executable, "-m", "benchmarks.startup", *argv, "--child"]
        start = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            lines = []
            for line in child.stdout:
                lines.append(line)
                if line.startswith("{"):  # the batch is there; how the process ends is no matter
                    seconds = time.perf_counter() - start
        if child.returncode:
            raise RuntimeError("".join(lines))
        found = json.loads(lines[-1])
        parts = {"start": seconds - sum(found["parts"].values())} | found["parts"]
        runs.append(parts | {"total": seconds, "total, CPU time": found["cpu"]})
    return {
        "command": shlex.join(["python", "-m", "benchmarks.startup", *argv]),
        "runs": runs,
        "median_seconds": {part: statistics.median(run[part] for run in runs) for part in runs[0]},
        "load_average_before_each_run": loads,
        **machine.describe(PACKAGES),
    }


def print_result(result: dict[str, Any]) -> None:
    """Prints the parts' medians and spread."""
    from lts_jax.writers import format_table

    print(f"{result['command']}\n{result['cpu']}, {result['cpu_cores']} cores, {result['date']}")
    rows = []
    for part, median in result["median_seconds"].items():
        seconds = [run[part] for run in result["runs"]]
        rows.append([part, f"{median:.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}"])
    print(format_table(("part", "median s", "spread"), rows))
    loads = result["load_average_before_each_run"]
    print(f"load average before a run: {min(loads):.1f} to {max(loads):.1f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.startup")
    parser.add_argument("--data", type=Path, required=True, help="folder of the built set")
    parser.add_argument("--dataset", default="refcoco_unc")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parser.add_argument(
        "--no-torch",
        action="store_true",
        help="as where torch, no dependency of ours, is not installed: tensorboardX imports it",
    )
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.child:
        parts = first_batch(args.data, args.dataset, args.no_torch)
        print(json.dumps({"parts": parts, "cpu": time.process_time()}), flush=True)
        return 0
    result = benchmark(argv, args.repeats)
    print_result(result)
    if args.out:
        from lts_jax.writers import write_json

        write_json(args.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
