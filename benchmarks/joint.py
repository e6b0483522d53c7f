"""Compares joint training on several datasets with single ones: startup and input pipeline.

    python -m benchmarks.joint --data data --out joint.json

The measurements alternate. Each start is a separate process (`benchmarks.startup`, from the command
to the first batch). Then all pipelines are read in one process, alternating after a few batches
with a new seed, so that other load on the machine affects all of them equally. JAX is not used.
"""

import argparse
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, pipeline, startup
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.configs.default import get_config
from lts_jax.data.datasets import describe_joint
from lts_jax.data.pipeline import train_batches, training_order
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json
from tfds_refcoco.errors import DataError
from tfds_refcoco.records.joint import open_datasets

SETS = ("refcoco_unc", "refcocoplus_unc", "refcocog_umd")
JOINT, MIXED = "all together", "each set by its sentences"
THREADS = 2


def start_all(data: Path, names: dict[str, str], repeats: int) -> dict[str, list[dict[str, float]]]:
    """Returns the seconds per part of `repeats` starts of each configuration."""
    starts: dict[str, list[dict[str, float]]] = {way: [] for way in names}
    for way in _rotate(list(names), repeats):
        starts[way].append(startup.run_process(["--data", str(data), "--dataset", names[way]]))
        total, load = starts[way][-1]["total"], machine.load_average()
        print(f"{way}: {total:.1f} s to the first batch, load {load:.1f}", flush=True)
    return starts


def read_all(
    data: Path, names: dict[str, str], rounds: int, batches: int
) -> dict[str, list[dict[str, float]]]:
    """Returns wall-clock and CPU seconds of `batches` batches per configuration and round."""
    parts = {
        way: pipeline.open_train(argparse.Namespace(data=data, dataset=name))
        for way, name in names.items()
    }
    times: dict[str, list[dict[str, float]]] = {way: [] for way in names}
    for way in _rotate(list(names), rounds):
        split, preprocessing = parts[way]
        order = training_order(split, seed=len(times[way]))
        size = get_config().train.batch_size
        dataset = train_batches(split, order, preprocessing, batch_size=size, threads=THREADS)
        iterator = iter(dataset)
        times[way].append(pipeline.time_batches(iterator, 2, batches))
        iterator.close()
    return times


def _rotate(ways: list[str], rounds: int) -> Iterator[str]:
    """Yields all configurations in each round; each round starts with the next one."""
    for i in range(rounds):
        yield from ways[i % len(ways) :] + ways[: i % len(ways)]


def benchmark(args: argparse.Namespace) -> dict[str, Any]:
    """Measures the startup and the speed of each dataset and of all together."""
    names = {name: name for name in args.sets} | {JOINT: "+".join(args.sets)}
    loads = [machine.load_average()]
    starts = start_all(args.data, names, args.repeats)
    loads.append(machine.load_average())
    times = read_all(args.data, names, args.rounds, args.batches)
    loads.append(machine.load_average())
    dataset = open_datasets(args.data, names[JOINT])
    kept = describe_joint(dataset)["sets"]
    read = args.batches * get_config().train.batch_size
    seconds = {way: [x["seconds"] / read for x in of_way] for way, of_way in times.items()}
    cpu = {way: [x["cpu"] / read for x in of_way] for way, of_way in times.items()}
    # Weight each dataset by its share of sentences in joint training.
    weights = {name: of_set["sentences"] for name, of_set in kept.items()}

    def ratios(of: dict[str, list[float]]) -> dict[str, float]:
        """Returns the median over rounds of each dataset's time relative to the joint time."""
        by_set = {name: np.divide(of[name], of[JOINT]) for name in weights}
        mixed = np.average(list(by_set.values()), axis=0, weights=list(weights.values()))
        return {k: float(np.median(v)) for k, v in (by_set | {MIXED: mixed}).items()}

    return {
        "batch_size": get_config().train.batch_size,
        "batches": args.batches,
        "threads": THREADS,
        "sets": kept,
        "images": dataset.split("train").counts.images,
        "start": starts,
        "start_median_seconds": {
            way: {part: statistics.median(run[part] for run in runs) for part in runs[0]}
            for way, runs in starts.items()
        },
        "seconds_per_sentence": seconds,
        "cpu_seconds_per_sentence": cpu,
        "joint_speed_by_that_of": ratios(seconds),
        "joint_speed_by_that_of_cpu_time": ratios(cpu),
        "load_average_before_between_after": loads,
        **machine.describe(startup.PACKAGES),
    }


def print_result(result: dict[str, Any]) -> None:
    """Prints the tables."""
    print(f"{result['command']}\n{result['cpu']}, {result['cpu_cores']} cores, {result['date']}")
    rows = [[name, *map(str, kept.values())] for name, kept in result["sets"].items()]
    print(format_table(("set", "images", "sentences", "dropped", "of them", "leaked"), rows))
    print(f"{result['images']} images together")
    starts = result["start_median_seconds"]
    rows = [
        [part, *(f"{of_way[part]:.2f}" for of_way in starts.values())]
        for part in next(iter(starts.values()))
    ]
    print(format_table(("start, median s", *starts), rows))
    rows = []
    for way, seconds in result["seconds_per_sentence"].items():
        speeds = sorted(1 / x for x in seconds)
        cpu = 1000 * statistics.median(result["cpu_seconds_per_sentence"][way])
        spread = f"{speeds[0]:.1f} to {speeds[-1]:.1f}"
        rows.append([way, f"{statistics.median(speeds):.1f}", spread, f"{cpu:.2f}"])
    print(format_table(("way", "sentences/s", "spread", "CPU ms/sentence"), rows))
    for name, share in result["joint_speed_by_that_of"].items():
        by_cpu = result["joint_speed_by_that_of_cpu_time"][name]
        print(f"{JOINT} / {name}: {share:.3f}, by CPU time {by_cpu:.3f} (medians of the rounds)")
    loads = ", ".join(f"{x:.1f}" for x in result["load_average_before_between_after"])
    print(f"load average before, between and after the two: {loads}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the built datasets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="at least two datasets")
    parser.add_argument("--repeats", type=int, default=5, help="number of starts per configuration")
    parser.add_argument("--rounds", type=int, default=30, help="number of rounds of reading")
    parser.add_argument("--batches", type=int, default=10, help="timed batches per round")
    args = parse_arguments(parser, arguments)
    try:
        result = benchmark(args)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    command = {"command": shlex.join(["python", "-m", "benchmarks.joint", *arguments])}
    print_result(command | result)
    if args.out:
        write_json(args.out, command | result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
