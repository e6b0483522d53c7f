"""Training on several data sets beside training on each alone: the start, and the input pipeline.

    python -m benchmarks.joint --data data --out joint.json

The ways alternate; each measurement is a process of its own, of `benchmarks.startup` (from the
command to the first batch) and of `benchmarks.pipeline` (sentences read per second).
"""

import shlex
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine, pipeline, startup
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.configs.default import get_config
from lts_jax.data.datasets import describe_joint
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json
from tfds_refcoco.errors import DataError
from tfds_refcoco.records.joint import open_datasets

SETS = ("refcoco_unc", "refcocoplus_unc", "refcocog_umd")
JOINT = "all together"


def benchmark(data: Path, sets: Sequence[str], repeats: int, batches: int) -> dict[str, Any]:
    """Measures the start and the speed of each set and of all together, alternating."""
    size = get_config().train.batch_size
    names = {name: name for name in sets} | {JOINT: "+".join(sets)}
    ways = list(names)
    starts: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    loads = []
    for i in range(repeats):
        first = i % len(ways)
        for way in ways[first:] + ways[:first]:
            loads.append(machine.load_average())
            options = ["--data", str(data), "--dataset", names[way]]
            starts[way].append(startup.run_process(options))
            timed = [*options, "--batches", str(batches), "--batch-size", str(size)]
            took = pipeline.run_process(pipeline.OURS, timed)
            read = batches * size
            speeds[way].append(read / took["seconds"])
            cpu[way].append(1000 * took["cpu"] / read)
            total = starts[way][-1]["total"]
            speed = f"{speeds[way][-1]:.1f} sentences/s, load {loads[-1]:.1f}"
            print(f"{way}: {total:.1f} s to the first batch, {speed}", flush=True)
    median = {way: statistics.median(of_way) for way, of_way in speeds.items()}
    dataset = open_datasets(data, names[JOINT])
    kept = describe_joint(dataset)["sets"]
    # A sentence of each set as often as the joint training takes one.
    total = sum(of_set["sentences"] for of_set in kept.values())
    mixed = total / sum(of_set["sentences"] / median[name] for name, of_set in kept.items())
    return {
        "batch_size": size,
        "batches": batches,
        "sets": kept,
        "images": dataset.split("train").counts.images,
        "start": starts,
        "start_median_seconds": {
            way: {part: statistics.median(run[part] for run in runs) for part in runs[0]}
            for way, runs in starts.items()
        },
        "sentences_per_second": speeds,
        "sentences_per_second_median": median,
        "cpu_ms_per_sentence": cpu,
        "cpu_ms_per_sentence_median": {w: statistics.median(of) for w, of in cpu.items()},
        "joint_speed_by_that_of": {
            **{name: median[JOINT] / median[name] for name in sets},
            "each set by its sentences": median[JOINT] / mixed,
        },
        "load_average_before_each_turn": loads,
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
    rows = [
        [
            way,
            f"{median:.1f}",
            f"{min(result['sentences_per_second'][way]):.1f} to "
            f"{max(result['sentences_per_second'][way]):.1f}",
            f"{result['cpu_ms_per_sentence_median'][way]:.2f}",
        ]
        for way, median in result["sentences_per_second_median"].items()
    ]
    print(format_table(("way", "sentences/s", "spread", "CPU ms/sentence"), rows))
    for name, share in result["joint_speed_by_that_of"].items():
        print(f"{JOINT} / {name}: {share:.3f}")
    loads = result["load_average_before_each_turn"]
    print(f"load average before a turn: {min(loads):.1f} to {max(loads):.1f}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the built datasets")
    parser.add_argument("--sets", nargs="+", default=list(SETS), help="at least two")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each way")
    parser.add_argument("--batches", type=int, default=100, help="timed batches")
    args = parse_arguments(parser, arguments)
    try:
        result = benchmark(args.data, args.sets, args.repeats, args.batches)
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
