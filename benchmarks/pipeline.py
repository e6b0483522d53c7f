"""Measures the speed and memory of the input pipeline, optionally against PyTorch's `DataLoader`.

    python -m benchmarks.pipeline --data data --work peer --against torch --out pipeline.json

The pipelines alternate. Each measurement is a separate process that reads batches of the training
split, discards the first ones, and times the next. `torch` is `benchmarks.peer.loader`; `torch
uint8` does not convert images to floats, like our pipeline, which converts on the device.
Afterwards, our pipeline reads two epochs and its memory is recorded. No process starts JAX, whose
threads and memory would be included.
"""

import argparse
import itertools
import json
import multiprocessing
import os
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import tfds_refcoco
from benchmarks import machine
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.configs.default import get_config
from lts_jax.data import examples, pipeline
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.io.console import format_table
from lts_jax.io.files import write_json
from tfds_refcoco.records.joint import open_datasets
from tfds_refcoco.records.split import Split

PACKAGES = ("numpy", "opencv-python-headless", "grain", "array-record", "tensorflow-datasets")
OURS = "ours"
PEERS = {"torch": True, "torch uint8": False}  # whether images are converted to floats


def open_train(args: argparse.Namespace) -> tuple[Split, examples.Preprocessing]:
    """Returns the training split and its preprocessing."""
    split = open_datasets(args.data, args.dataset).split("train")
    config = get_config().data
    vocabulary = Vocabulary.build(split.index.text, config.min_count)
    return split, examples.Preprocessing(vocabulary, config.image_size, config.max_words)


def open_batches(way: str, args: argparse.Namespace) -> Iterator[Any]:
    """Yields an endless stream of batches from the named pipeline."""
    split, preprocessing = open_train(args)
    if way == OURS:
        dataset = pipeline.train_batches(
            split,
            pipeline.training_order(split),
            preprocessing,
            batch_size=args.batch_size,
            threads=args.workers,
        )
        return iter(dataset)
    from benchmarks.peer import loader

    samples = loader.list_samples(split, peer_folder(args), preprocessing)
    size, max_words = preprocessing.image_size, preprocessing.max_words
    dataset = loader.Samples(samples, size, max_words, PEERS[way])
    return loader.batches(dataset, args.batch_size, args.workers, seed=0)


def peer_folder(args: argparse.Namespace) -> Path:
    """Returns the folder of PyTorch's input files."""
    return args.work / args.dataset


def time_batches(batches: Iterator[Any], skip: int, count: int) -> dict[str, float]:
    """Returns wall-clock and CPU seconds of `count` batches after the first `skip`."""
    for _ in itertools.islice(batches, skip):
        pass
    start, cpu = time.perf_counter(), cpu_seconds()
    for _ in itertools.islice(batches, count):
        pass
    return {"seconds": time.perf_counter() - start, "cpu": cpu_seconds() - cpu}


def cpu_seconds() -> float:
    """Returns the CPU time of this process and its workers (Linux)."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        status = Path(f"/proc/{child.pid}/stat").read_text(encoding="utf-8")
        user, system = status.rpartition(")")[2].split()[11:13]
        total += (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")
    return total


def memory_of_epochs(args: argparse.Namespace, epochs: int = 2, notes: int = 8) -> dict[str, Any]:
    """Reads epochs and returns this process's memory, MB, at regular intervals."""
    split, _ = open_train(args)
    per_epoch = pipeline.training_order(split).epoch_length // args.batch_size
    every = max(1, per_epoch // notes)
    batches, noted = open_batches(OURS, args), []
    start = time.perf_counter()
    for number in range(1, epochs * per_epoch + 1):
        next(batches)
        if number % every == 0:
            noted.append({"epoch": number / per_epoch, **resident_memory()})
    seconds = time.perf_counter() - start
    read = epochs * per_epoch * args.batch_size
    return {"epochs": epochs, "sentences": read, "seconds": seconds, "memory": noted}


def resident_memory() -> dict[str, float]:
    """Returns the resident memory, MB, in total and without file-backed pages (Linux)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {
        name: int(values[key].split()[0]) / 1000
        for name, key in (("resident_mb", "VmRSS"), ("anonymous_mb", "RssAnon"))
    }


def run_process(way: str, arguments: Sequence[str]) -> Any:
    """Runs one measurement in a new process and returns its result."""
    command = [sys.executable, "-m", "benchmarks.pipeline", *arguments, "--way", way]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def benchmark(args: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """Times all pipelines, alternating; each round starts with a different one."""
    split, _ = open_train(args)
    ways = [OURS, *(PEERS if args.against == "torch" else ())]
    if args.against == "torch" and not peer_folder(args).exists():
        from benchmarks.peer import loader

        loader.write_files(split, peer_folder(args))
    speeds: dict[str, list[float]] = {way: [] for way in ways}
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    loads = []
    for i in range(args.repeats):
        first = i % len(ways)
        for way in ways[first:] + ways[:first]:
            loads.append(machine.load_average())
            took = run_process(way, arguments)
            read = args.batches * args.batch_size
            speeds[way].append(read / took["seconds"])
            cpu[way].append(1000 * took["cpu"] / read)
            print(f"{way}: {speeds[way][-1]:.1f} sentences/s, load {loads[-1]:.1f}", flush=True)
    medians = {way: statistics.median(of_way) for way, of_way in speeds.items()}
    return {
        "command": shlex.join(["python", "-m", "benchmarks.pipeline", *arguments]),
        "split": {"images": len(split), "sentences": len(split.index)},
        "batch_size": args.batch_size,
        "batches": args.batches,
        "workers": args.workers,
        "sentences_per_second": speeds,
        "median": medians,
        "cpu_ms_per_sentence": cpu,
        "times_faster": {way: medians[OURS] / medians[way] for way in ways if way != OURS},
        "load_average_before_each_turn": loads,
        "two_epochs": run_process("memory", arguments),
        **machine.describe((*PACKAGES, *(["torch"] if args.against else []))),
    }


def print_result(result: dict[str, Any]) -> None:
    """Prints the tables."""
    split = result["split"]
    print(f"{result['command']}\n{result['cpu']}, {result['cpu_cores']} cores, {result['date']}")
    print(f"{split['sentences']} sentences, {split['images']} images")
    rows = [
        [
            way,
            f"{result['median'][way]:.1f}",
            f"{min(speeds):.1f} to {max(speeds):.1f}",
            f"{statistics.median(result['cpu_ms_per_sentence'][way]):.2f}",
            f"{result['times_faster'][way]:.2f}" if way in result["times_faster"] else "",
        ]
        for way, speeds in result["sentences_per_second"].items()
    ]
    print(
        format_table(
            ("way", "sentences/s", "spread", "CPU ms/sentence", "ours is times faster"), rows
        )
    )
    loads = result["load_average_before_each_turn"]
    print(f"load average before a measurement: {min(loads):.1f} to {max(loads):.1f}")
    two = result["two_epochs"]
    print(f"memory over {two['epochs']} epochs, {two['sentences']} sentences:")
    rows = [
        [f"{n['epoch']:.2f}", *(f"{v:.0f}" for v in list(n.values())[1:])] for n in two["memory"]
    ]
    print(format_table(("epoch", "resident MB", "of it not files"), rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    parser = make_parser(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the built dataset")
    parser.add_argument("--dataset", default="refcoco_unc")
    parser.add_argument("--against", choices=["torch"], help="compare with PyTorch, alternating")
    parser.add_argument("--work", type=Path, help="folder for PyTorch's input files; not deleted")
    parser.add_argument(
        "--workers", type=int, default=2, help="number of our threads and of PyTorch's processes"
    )
    parser.add_argument("--batch-size", type=int, default=get_config().train.batch_size)
    parser.add_argument("--skip", type=int, default=20, help="number of untimed batches")
    parser.add_argument("--batches", type=int, default=100, help="timed batches")
    parser.add_argument(
        "--repeats", type=int, default=5, help="number of measurements per pipeline"
    )
    parser.add_argument("--way", choices=[OURS, *PEERS, "memory"], help=argparse.SUPPRESS)
    args = parse_arguments(parser, arguments)
    if args.against and args.work is None:
        parser.error("--against requires --work, a folder for PyTorch's input files")
    if args.way == "memory":
        print(json.dumps(memory_of_epochs(args)))
    elif args.way:
        print(json.dumps(time_batches(open_batches(args.way, args), args.skip, args.batches)))
    else:
        try:
            result = benchmark(args, arguments)
        except (tfds_refcoco.DataError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        print_result(result)
        if args.out:
            write_json(args.out, result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
