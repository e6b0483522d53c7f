"""Measures the time and memory of the `lts demo` page, with a browser's requests.

    python -m benchmarks.demo --model photos --image photo.jpg --out demo.json

The requests are a click, clicks of two concurrent users, an image of 50 megapixels, and a text file
named .jpg. Memory is measured before and after many clicks.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from gradio_client import Client, handle_file
from PIL import Image

from benchmarks import machine
from benchmarks.arguments import make_parser, parse_arguments
from lts_jax.io.files import write_json

LINES = "man on the left\nred cup\nthe second dog from the right"
LARGE = 8660, 5774  # 50 megapixels
PORT = 7873


@contextlib.contextmanager
def served(model: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Serves the page until the block ends."""
    command = [sys.executable, "-m", "lts_jax", "demo", f"--model={model}", f"--port={port}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline().startswith("http")
            yield process
        finally:
            process.terminate()


def measure(process: psutil.Process, image: Path, clicks: int, folder: Path) -> dict[str, Any]:
    """Sends the requests; `folder` stores the generated images and the results."""
    users = [
        Client(f"http://127.0.0.1:{PORT}", verbose=False, download_files=folder / str(i))
        for i in range(2)
    ]

    def click(file: Path, user: int = 0) -> str:
        answer: str = users[user].predict(handle_file(str(file)), LINES, api_name="/find")[1]
        return answer

    def timed(call: Callable[[], Any]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    def megabytes() -> float:
        return process.memory_info().rss / 1e6

    result: dict[str, Any] = {"click_seconds": [timed(lambda: click(image)) for _ in range(20)]}
    with ThreadPoolExecutor() as pool:
        result["two_users_seconds"] = [
            list(pool.map(lambda user: timed(lambda: click(image, user)), (0, 1))) for _ in range(9)
        ]
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (58, 87, 3), np.uint8))
    large = folder / "large.jpg"
    coarse.resize(LARGE, Image.Resampling.BILINEAR).save(large, quality=95)
    result["50_megapixels"] = {
        "file_megabytes": large.stat().st_size / 1e6,
        "seconds": [timed(lambda: click(large)) for _ in range(3)],
    }
    text = folder / "text.jpg"
    text.write_text("no picture")
    result["text_file"] = click(text)
    memory = [megabytes()]
    for _ in range(3):
        for _ in range(clicks // 3):
            assert "<dt>" in click(image)
        memory.append(megabytes())
    result |= {"clicks": clicks, "megabytes_before_and_after_each_third": memory}
    result["median_click_seconds"] = statistics.median(result["click_seconds"])
    return result


def main() -> None:
    """Runs the command line."""
    parser: argparse.ArgumentParser = make_parser(__doc__)
    parser.add_argument("--model", default="photos", help="see `lts demo --model`")
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--clicks", type=int, default=300)
    args = parse_arguments(parser)
    with tempfile.TemporaryDirectory() as folder, served(args.model, PORT) as process:
        result = measure(psutil.Process(process.pid), args.image, args.clicks, Path(folder))
    result |= {"load_average": machine.load_average()}
    result |= machine.describe(("jax", "flax", "gradio"))
    print(result)
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
