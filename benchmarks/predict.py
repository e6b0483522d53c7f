"""Measures prediction time: encoding an image, segmenting for a sentence, and the command.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
      python -m benchmarks.predict --workdir runs/refcoco --image photo.jpg --out predict.json

The time does not depend on the weights, so any run of a config can be used. With `--images`, the
benchmark instead compares `Predictor.map`, one call per image, and one call per sentence.

    python -m benchmarks.predict --model photos --images photos/ --out map.json
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.experiment import arithmetic
from lts_jax.inference.predictor import Predictor
from lts_jax.io.files import write_json
from tfds_refcoco import DataError

TEXTS = ("zebra grazing on the savannah", "striped animal")
MANY = (*TEXTS, "the second man from the left")


def of_command(workdir: Path, image: Path) -> dict[str, Any]:
    """Times the command with an empty and with a warm compilation cache."""
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lts_jax", "predict", f"--out={folder}/out", "--overwrite"]
        command += [f"--workdir={workdir}", f"--image={image}", f"--text={TEXTS[0]}"]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        for name in ("empty cache", "filled cache"):
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            result[name] = {"wall_seconds": wall, "cpu_seconds": cpu}
        result["most_memory_gigabytes"] = after.ru_maxrss / 1e6
    return result


def in_process(workdir: Path, image: Path, repeats: int) -> dict[str, Any]:
    """Times a sentence with its image and a sentence about an encoded image, alternating."""
    predictor = Predictor(workdir)
    start = time.perf_counter()
    encoded = predictor.encode(image)
    predictor.find(encoded, TEXTS[0])
    first = time.perf_counter()
    predictor.find(encoded, TEXTS[1])
    second = time.perf_counter()
    seconds: dict[str, list[float]] = {"image and text": [], "text": []}
    for _ in range(repeats):
        at = time.perf_counter()
        encoded = predictor.encode(image)
        predictor.find(encoded, TEXTS[0])
        between = time.perf_counter()
        predictor.find(encoded, TEXTS[1])
        seconds["image and text"].append(between - at)
        seconds["text"].append(time.perf_counter() - between)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    flops = flops_of(predictor)
    return {
        "first_text_seconds": first - start,
        "second_text_seconds": second - first,
        "seconds": seconds,
        "median_seconds": medians,
        "times_cheaper": medians["image and text"] / medians["text"],
        "gflops": {name: value / 1e9 for name, value in flops.items()},
        "times_fewer_flops": sum(flops.values()) / flops["text"],
    }


def of_many(predictor: Predictor, files: Sequence[Path], rounds: int) -> dict[str, Any]:
    """Times three sentences per image with all three interfaces, alternating."""

    def by_sentence(files: Sequence[Path]) -> int:
        return sum(len(predictor(file, text)) for file in files for text in MANY)

    def by_picture(files: Sequence[Path]) -> int:
        return sum(len(predictor(file, MANY)) for file in files)

    def by_map(files: Sequence[Path]) -> int:
        every = predictor.map((file, MANY) for file in files)
        return sum(0 if isinstance(result, DataError) else len(result) for result in every)

    ways = {"map": by_map, "by picture": by_picture, "by sentence": by_sentence}
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for way in ways.values():
        way(files[:2])
    for _ in range(rounds):
        for name, way in ways.items():
            wall, cpu = time.perf_counter(), time.process_time()
            assert way(files) == len(files) * len(MANY)
            spent = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
            seconds[name].append(spent)
            print(name, spent, flush=True)
    medians = {
        name: {kind: statistics.median(x[kind] for x in spent) for kind in ("wall", "cpu")}
        for name, spent in seconds.items()
    }
    return {
        "pictures": len(files),
        "sentences": len(files) * len(MANY),
        "seconds": seconds,
        "median_seconds": medians,
        "times_faster_than": {
            name: {kind: medians[name][kind] / medians["map"][kind] for kind in ("wall", "cpu")}
            for name in ("by picture", "by sentence")
        },
    }


def flops_of(predictor: Predictor) -> dict[str, float]:
    """Returns XLA's count for the two compiled functions."""
    compiled = predictor.programs.compiled
    return {name: program.cost_analysis()["flops"] for name, program in compiled.items()}


def main() -> None:
    """Runs the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--workdir", type=Path, help="folder of a trained run")
    parser.add_argument("--image", type=Path, help="image for single predictions")
    parser.add_argument("--model", help="with --images: see `lts predict --model`")
    parser.add_argument("--images", type=Path, help="folder of images; the first 200 are used")
    parser.add_argument("--repeats", type=int, default=7)
    args = parse_arguments(parser)
    arithmetic.fix()
    if args.images:
        files = sorted(args.images.glob("*.jpg"))[:200]
        predictor = Predictor.from_pretrained(args.model or args.workdir)
        result = of_many(predictor, files, args.repeats)
    else:
        result = {
            "command": of_command(args.workdir, args.image),
            "process": in_process(args.workdir, args.image, args.repeats),
        }
    result |= {"load_average": machine.load_average(), **machine.describe(("jax", "flax"))}
    print(json.dumps(result, indent=1))
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
