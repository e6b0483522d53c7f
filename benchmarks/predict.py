"""Time of a prediction: encoding an image, segmenting for a text, and the whole command.

    GLIBC_TUNABLES=glibc.malloc.hugetlb=1 \\
      python -m benchmarks.predict --workdir runs/refcoco --image photo.jpg --out predict.json

The time does not depend on the weights: any run of a config will do.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.inference.predictor import Predictor
from lts_jax.io.files import write_json

TEXTS = ("zebra grazing on the savannah", "striped animal")


def of_command(workdir: Path, image: Path) -> dict[str, Any]:
    """Times the command with an empty and with a filled compilation cache."""
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
    """Times, alternating, a text with its image, and a text about an encoded image."""
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


def flops_of(predictor: Predictor) -> dict[str, float]:
    """Returns XLA's count for the two compiled functions."""
    compiled = predictor.programs.compiled
    return {name: program.cost_analysis()["flops"] for name, program in compiled.items()}


def main() -> None:
    """Runs the command line."""
    parser = make_parser(__doc__)
    parser.add_argument("--workdir", type=Path, required=True, help="of a trained run")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=7)
    args = parse_arguments(parser)
    result = {
        "command": of_command(args.workdir, args.image),
        "process": in_process(args.workdir, args.image, args.repeats),
        "load_average": machine.load_average(),
        **machine.describe(("jax", "flax")),
    }
    print(json.dumps(result, indent=1))
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
