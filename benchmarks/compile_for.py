"""Compiles a config's programs for a GPU or TPU that is not attached and reports their cost.

    pip install 'lts_jax[compile-gpu]'   # or compile-tpu
    python -m benchmarks.compile_for --device h100 --config refcoco --batch 64 \\
      --config.model.dtype=bfloat16 --out h100.json

Nothing is executed, and no data is needed. Memory and operations are XLA's estimates. Traffic is
the bytes that the compiled kernels read and write, counting each operand once. The time is modeled,
not measured: the larger one of traffic at the published memory bandwidth and operations at the
published rate. Without a GPU, XLA cannot autotune its kernels.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax

from benchmarks import flops, machine
from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.compiled import programs, report
from benchmarks.compiled.devices import DEVICES, TPU
from benchmarks.compiled.topology import SLICES, devices_of
from benchmarks.network import SyntheticExperiment, make_batch, out_of_memory
from lts_jax.cli.arguments import positive
from lts_jax.config.flags import load_config
from lts_jax.distributed.mesh import make_mesh
from lts_jax.errors import ConfigError
from lts_jax.io.files import write_json

SHARE = 0.9  # share of a device's memory that --fit uses


def measure(
    name: str, experiment: SyntheticExperiment, device: str, batch: int, flags: dict[str, Any]
) -> dict[str, Any]:
    """Compiles one of `programs.PROGRAMS` and returns the result of `report.describe`.

    If the program does not compile, `compiled` is False and the compiler's message is included.
    """
    devices = experiment.mesh.size
    if name.startswith("predict"):
        batch, devices = 1, 1
    start = time.perf_counter()
    lowered = programs.lower(name, experiment, batch)
    platform = "tpu" if isinstance(DEVICES[device], TPU) else "cuda"
    try:
        program = programs.compile_program(lowered, platform, flags)
    except jax.errors.JaxRuntimeError as error:
        reason = "out of memory" if out_of_memory(error) else str(error)[:2000]
        return {"compiled": False, "error": reason}
    operations = _operations(experiment, batch) if name == "train" else 0
    dtype = experiment.config.model.dtype
    described = report.describe(program, DEVICES[device], batch, devices, operations, dtype)
    return {"compiled": True, "seconds_to_compile": time.perf_counter() - start} | described


def _operations(experiment: SyntheticExperiment, batch: int) -> int:
    examples = make_batch(experiment, batch, experiment.config.train.sentences_per_image)
    return flops.count(experiment.train_step, experiment.abstract_state, examples)


def largest_batch(
    peak: Callable[[int], float], limit: float, multiple: int, first: int = 16
) -> tuple[int, int]:
    """Finds the largest batch that fits, with as few compilations as possible.

    Memory grows almost linearly with the batch: a line through two batches predicts the next one to
    compile.

    Args:
      peak: returns the peak memory of a batch in bytes per device, infinity if it does not compile.
      limit: available bytes.
      multiple: batches must be multiples of this.
      first: the first batch to try, in multiples.

    Returns:
      The batch, 0 if not even one multiple fits, and the number of compiled batches.
    """
    known: dict[int, float] = {}

    def fits(n: int) -> bool:
        if n not in known:
            known[n] = peak(n * multiple)
        return known[n] <= limit

    low, high, n = 0, None, first
    while high is None or high - low > max(1, low // 50):
        if fits(n):
            low = n
        else:
            high = n
        n = _next(known, low, high, limit)
    return low * multiple, len(known)


def _next(known: dict[int, float], low: int, high: int | None, limit: float) -> int:
    """Returns where a line reaches the limit, if that is within the bounds, else the midpoint."""
    finite = sorted(n for n in known if known[n] < float("inf"))
    if len(finite) > 1:
        first, last = finite[0], finite[-1]
        slope = (known[last] - known[first]) / (last - first)
        guess = last + int((limit - known[last]) // max(slope, 1.0))
        if guess <= low:  # check whether a larger batch fits
            guess = low + max(1, low // 50)
        if high is None or guess < high:
            return guess
    return 2 * low if high is None else (low + high) // 2


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Compiles the requested programs."""
    device = DEVICES[args.device]
    mesh = make_mesh(devices_of(args.device, args.devices))
    config = load_config(args.config, args.overrides)
    experiment = SyntheticExperiment(config, mesh)
    flags: dict[str, Any] = {}
    for flag in args.flag:
        name, _, value = flag.removeprefix("--").partition("=")
        flags[name] = {"true": True, "false": False}.get(value, value)
    result: dict[str, Any] = {
        "config": args.config,
        "overrides": args.overrides,
        "device": args.device,
        "device_title": device.title,
        "devices": args.devices,
        "flags": flags,
        "published": {
            name: getattr(device, name)
            for name in ("memory", "bandwidth", "bfloat16", "float32", "link", "source")
        },
    }
    batch = args.batch
    if args.fit:
        train = config.train
        multiple = args.devices * train.accumulate * train.sentences_per_image

        def peak(n: int) -> float:
            of = measure("train", experiment, args.device, n, flags)
            print(f"batch {n}: {of['memory']['peak'] / 2**20:,.0f} MiB" if of["compiled"] else
                  f"batch {n}: {of['error'].partition(chr(10))[0]}", flush=True)  # fmt: skip
            return float(of["memory"]["peak"]) if of["compiled"] else float("inf")

        batch, tries = largest_batch(peak, SHARE * device.memory, multiple)
        result["fit"] = {"share_of_memory": SHARE, "batch": batch, "compilations": tries}
        print(f"largest batch in {SHARE:.0%} of the memory: {batch}")
    result["batch"] = batch
    if batch:
        result["programs"] = {
            name: measure(name, experiment, args.device, batch, flags) for name in args.programs
        }
    return result | machine.describe(["jax", "jaxlib", "flax", *_compilers(args.device)])


def _compilers(device: str) -> list[str]:
    return ["libtpu"] if isinstance(DEVICES[device], TPU) else ["jax-cuda13-plugin"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line."""
    parser = make_parser(__doc__, config=True)
    parser.add_argument("--device", choices=[*DEVICES], required=True)
    parser.add_argument(
        "--devices", type=positive, default=1,
        help=f"GPUs of a host, or chips of a TPU slice ({', '.join(map(str, SLICES))})",
    )  # fmt: skip
    size = parser.add_mutually_exclusive_group(required=True)
    size.add_argument("--batch", type=positive, help="number of sentences on all devices")
    size.add_argument(
        "--fit",
        action="store_true",
        help=f"find the largest batch that fits in {SHARE:.0%} of the memory",
    )
    parser.add_argument(
        "--programs", nargs="+", choices=programs.PROGRAMS, default=["train"], metavar="PROGRAM",
        help=f"programs to compile: {', '.join(programs.PROGRAMS)} (default: train)",
    )  # fmt: skip
    parser.add_argument(
        "--flag", action="append", default=[], metavar="--xla_…=VALUE", help="XLA flag; repeatable"
    )
    args = parse_arguments(parser, arguments)
    try:
        result = run(args)
    except ConfigError as error:
        raise SystemExit(f"error: {error}") from error
    compiled = {k: v for k, v in result.get("programs", {}).items() if v["compiled"]}
    if compiled:
        where = f"{args.devices} × {result['device_title']}"
        print(f"\n{args.config} on {where}: {result['batch']} sentences")
        print(report.table(compiled))
    if "train" in compiled:
        print("\n" + report.traffic_table(compiled["train"]))
    for name, program in result.get("programs", {}).items():
        if not program["compiled"]:
            print(f"{name} does not compile: {program['error']}")
    if args.out:
        write_json(args.out, result)


if __name__ == "__main__":
    main()
