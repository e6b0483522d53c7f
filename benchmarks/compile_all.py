"""Compiles all programs of the documentation's tables; rerun it to resume.

    nice python -m benchmarks.compile_all --out docs/results/compiled

Each job runs `benchmarks.compile_for` in a separate process and writes one JSON file; jobs whose
file exists are skipped. On two CPU cores, a GPU job takes one or two minutes and a TPU job ten. The
most important jobs come first. Requires the extras compile-gpu and compile-tpu.
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.compiled.devices import DEVICES, TPU
from benchmarks.compiled.programs import PROGRAMS
from lts_jax.config.flags import shipped_configs
from lts_jax.configs.variants import TABLE_3, VARIANTS

DTYPES = ("bfloat16", "float32")
WAYS = {
    "plain": [],
    "remat": ["--config.train.remat=True"],
    "shared": ["--config.train.sentences_per_image=4"],
}
NO_TRITON = "--flag=--xla_gpu_enable_triton_gemm=false"


class Job(NamedTuple):
    """An output file, relative to the results folder, and arguments of `benchmarks.compile_for`."""

    file: str
    arguments: list[str]


def jobs() -> Iterator[Job]:
    """Yields all jobs."""

    def job(file: str, device: str, config: str, batch: int, *more: str) -> Job:
        arguments = [f"--device={device}", f"--config={config}", f"--batch={batch}", *more]
        return Job(f"{file}.json", arguments)

    bf16 = "--config.model.dtype=bfloat16"
    yield job("train/h100_bfloat16", "h100", "refcoco", 64, bf16)
    yield job("traffic/h100", "h100", "refcoco", 64, bf16, NO_TRITON)
    yield job("programs/h100", "h100", "refcoco", 32, bf16, "--programs", *PROGRAMS)
    yield job("train/v5e_bfloat16", "v5e", "refcoco", 32, bf16)
    for variant in ("lts", "transformer", "star"):
        for dtype in DTYPES:
            for way, fields in WAYS.items():
                fields = [f"--config.model.dtype={dtype}", *fields]
                name = f"memory/{variant}_{dtype}_{way}"
                yield job(name, "h100", f"refcoco:{variant}", 16, *fields)
    for variant in (*VARIANTS, *TABLE_3):
        yield job(f"variants/h100/{variant}", "h100", f"refcoco:{variant}", 16, bf16)
    yield job("devices/h100x8", "h100", "refcoco", 128, bf16, "--devices=8")
    yield job("devices/v5ex4", "v5e", "refcoco", 64, bf16, "--devices=4")
    for device, of in DEVICES.items():
        for dtype in DTYPES:
            batch = 32 if isinstance(of, TPU) else 64
            name = f"train/{device}_{dtype}"
            yield job(name, device, "refcoco", batch, f"--config.model.dtype={dtype}")
    for config in shipped_configs():
        yield job(f"configs/h100/{config}", "h100", config, 16, bf16)
        yield job(f"configs/v5e/{config}", "v5e", config, 16, bf16)
    for variant in (*VARIANTS, *TABLE_3):
        yield job(
            f"variants/h100x8/{variant}", "h100", f"refcoco:{variant}", 64, bf16, "--devices=8"
        )
        yield job(f"variants/v5e/{variant}", "v5e", f"refcoco:{variant}", 8, bf16)
    for variant in (*VARIANTS, *TABLE_3):
        yield job(f"variants/v5ex4/{variant}", "v5e", f"refcoco:{variant}", 32, bf16, "--devices=4")


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__, out=False)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument(
        "--only", default="", metavar="TEXT", help="run only jobs whose file name has this"
    )
    args = parse_arguments(parser, arguments)
    for job in jobs():
        file = args.out / job.file
        if args.only not in job.file or file.exists():
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        print(job.file, flush=True)
        command = [sys.executable, "-m", "benchmarks.compile_for", *job.arguments, f"--out={file}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            print(f"failed: {' '.join(command)}\n{done.stderr[-2000:]}", flush=True)


if __name__ == "__main__":
    main()
