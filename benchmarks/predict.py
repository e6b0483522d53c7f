"""What a prediction costs: an image's encoding, a text about it, and the command as it is typed.

    python -m benchmarks.predict --workdir runs/refcoco --image photo.jpg --out predict.json

Weights do not matter for the time: any run of a config shows its network's.
"""

import argparse
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
from lts_jax import Predictor
from lts_jax.huge_pages import start_again

TEXTS = ("zebra grazing on the savannah", "striped animal")


def of_command(workdir: Path, image: Path) -> dict[str, Any]:
    """Starts the command twice in processes of their own: nothing compiled before, and all."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "lts_jax.main", "--mode=predict", f"--out={folder}/out"]
        command += [f"--workdir={workdir}", f"--image={image}", f"--text={TEXTS[0]}"]
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": f"{folder}/cache"}
        for name in ("empty cache", "filled cache"):
            before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
            wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
            cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            found[name] = {"wall_seconds": wall, "cpu_seconds": cpu}
        found["most_memory_gigabytes"] = after.ru_maxrss / 1e6
    return found


def in_process(workdir: Path, image: Path, repeats: int) -> dict[str, Any]:
    """Times a text with its image's encoding and a text of an encoded image, by turns."""
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
    """What XLA counts of the two compiled functions."""
    compiled: dict[str, Any] = {"image": predictor._encode, "text": predictor._locate}
    return {name: function.cost_analysis()["flops"] for name, function in compiled.items()}


def main() -> None:
    """Runs what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    result = {
        "command": of_command(given.workdir, given.image),
        "process": in_process(given.workdir, given.image, given.repeats),
        "load_average": os.getloadavg()[0],
        **machine.describe(("jax", "flax")),
    }
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    start_again()  # as the command itself does
    main()
