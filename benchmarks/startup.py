"""Measures the seconds from starting a training to its first batch, in new processes.

    python -m benchmarks.startup --data data --out startup.json

Each process repeats the startup of `lts_jax.training.loop.train`: it imports the same modules,
opens the dataset (with `--dataset a+b`, several joined), builds the vocabulary, describes the run,
prints the table of all splits, and reads the first batch. Building and compiling the network is not
measured.
"""

import importlib
import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.arguments import make_parser, parse_arguments

PACKAGES = ("jax", "numpy", "grain", "tensorflow-datasets")


def first_batch(data: Path, dataset: str, no_torch: bool) -> dict[str, float]:
    """Returns the seconds of each part, including the imports of training."""
    if no_torch:
        sys.modules["torch"] = None  # type: ignore[assignment]
    clock, parts = time.perf_counter(), {}

    def done(part: str) -> None:
        nonlocal clock
        now = time.perf_counter()
        parts[part], clock = now - clock, now

    importlib.import_module("lts_jax.training.loop")
    from lts_jax.configs.default import get_config
    from lts_jax.data.datasets import describe_joint
    from lts_jax.distributed.mesh import one_device
    from lts_jax.experiment.experiment import Experiment
    from lts_jax.training.logs import MetricWriter
    from lts_jax.training.setup import log_data_setup

    done("imports")
    config = get_config()
    config.data.dir, config.data.dataset = str(data), dataset
    experiment = Experiment(config, one_device())
    done("devices")
    split = experiment.train_split
    assert len(split.index)  # loads the index
    done("data set and index")
    assert len(experiment.vocabulary)
    done("vocabulary")
    run = experiment.describe(split)
    run["data"] |= describe_joint(experiment.dataset)
    done("description of the run")
    held_out = [x for x in experiment.dataset.splits if x.rpartition("/")[2] != "train"]
    config.eval.splits, config.eval.best_split = tuple(held_out), held_out[0]
    log_data_setup(experiment, run)
    done("table of the data")
    with tempfile.TemporaryDirectory() as workdir, MetricWriter(Path(workdir), 0):
        done("metric writer")
    next(experiment.train_batches())
    done("first batch")
    return parts


def run_process(argv: Sequence[str]) -> dict[str, float]:
    """Runs the startup in a new process; returns seconds by part."""
    command = [sys.executable, "-m", "benchmarks.startup", *argv, "--child"]
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            lines.append(line)
            if line.startswith(
                "{"
            ):  # the first batch is ready; the exit of the process is not measured
                seconds = time.perf_counter() - start
    if child.returncode:
        raise RuntimeError("".join(lines))
    measured = json.loads(lines[-1])
    parts = {"start": seconds - sum(measured["parts"].values())} | measured["parts"]
    return parts | {"total": seconds, "total, CPU time": measured["cpu"]}


def benchmark(argv: Sequence[str], repeats: int) -> dict[str, Any]:
    """Runs the startup in `repeats` new processes."""
    runs, loads = [], []
    for _ in range(repeats):
        loads.append(machine.load_average())
        runs.append(run_process(argv))
    return {
        "command": shlex.join(["python", "-m", "benchmarks.startup", *argv]),
        "runs": runs,
        "median_seconds": {part: statistics.median(run[part] for run in runs) for part in runs[0]},
        "load_average_before_each_run": loads,
        **machine.describe(PACKAGES),
    }


def print_result(result: dict[str, Any]) -> None:
    """Prints the median and the range of each part."""
    from lts_jax.io.console import format_table

    print(f"{result['command']}\n{result['cpu']}, {result['cpu_cores']} cores, {result['date']}")
    rows = []
    for part, median in result["median_seconds"].items():
        seconds = [run[part] for run in result["runs"]]
        rows.append([part, f"{median:.2f}", f"{min(seconds):.2f} to {max(seconds):.2f}"])
    print(format_table(("part", "median s", "spread"), rows))
    loads = result["load_average_before_each_run"]
    print(f"load average before a run: {min(loads):.1f} to {max(loads):.1f}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the built dataset")
    parser.add_argument("--dataset", default="refcoco_unc")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--no-torch",
        action="store_true",
        help="hide torch, which tensorboardX imports if installed",
    )
    parser.add_argument("--child", action="store_true", help=SUPPRESS)
    args = parse_arguments(parser, arguments)
    if args.child:
        parts = first_batch(args.data, args.dataset, args.no_torch)
        print(json.dumps({"parts": parts, "cpu": time.process_time()}), flush=True)
        return
    result = benchmark(arguments, args.repeats)
    print_result(result)
    if args.out:
        from lts_jax.io.files import write_json

        write_json(args.out, result)


if __name__ == "__main__":
    main()
