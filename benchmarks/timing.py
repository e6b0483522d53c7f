"""Alternating timing, so that other load on the machine affects all functions equally."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from lts_jax.io.console import format_table

T = TypeVar("T")


def alternate(
    ways: Mapping[str, Callable[[], T]], repeats: int
) -> tuple[dict[str, T], dict[str, list[float]]]:
    """Times one call of each function in each round; each round starts with a different function.

    A function must block until its work is done. Each timed call follows an untimed warm-up call,
    which compiles and restores caches and memory that the other functions displaced. On a virtual
    machine whose host reclaims freed memory, restoring takes seconds per gigabyte
    (docs/performance.md).

    Returns:
      By name, the result of the last warm-up call and the seconds of each round.
    """
    outputs: dict[str, T] = {}
    names = list(ways)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for i in range(repeats):
        first = i % len(names)
        for name in names[first:] + names[:first]:
            outputs[name] = ways[name]()
            start = time.perf_counter()
            ways[name]()
            seconds[name].append(time.perf_counter() - start)
    return outputs, seconds


def matrix_rate(dtype: Any) -> float:
    """Measures the device's rate for a large matrix product, operations per second."""
    device = jax.devices()[0]
    side = 2048 if device.platform == "cpu" else 8192
    a = jnp.ones((side, side), dtype)
    product = jax.jit(lambda x: x @ x)
    _, seconds = alternate({"": lambda: product(a).block_until_ready()}, 9)
    return 2 * side**3 / statistics.median(seconds[""])


def peak_memory() -> int | None:
    """Returns JAX's peak memory on the device in bytes, or None if it is not reported."""
    stats = jax.devices()[0].memory_stats()
    return stats.get("peak_bytes_in_use") if stats else None


def summarize(
    seconds: Mapping[str, Sequence[float]],
    sentences: int,
    operations: int,
    rate: float,
    devices: int = 1,
) -> dict[str, dict[str, Any]]:
    """Returns the median, range, and sentences and operations per second of each implementation.

    Args:
      seconds: seconds of each call, by implementation.
      sentences: sentences per call.
      operations: floating-point operations of our network per call; additional operations of
        another implementation do not count.
      rate: rate of one device, from `matrix_rate`.
      devices: number of devices of "ours"; the others run on one.
    """
    rows = {}
    for way, times in seconds.items():
        median = statistics.median(times)
        possible = rate * devices if way == "ours" else rate
        rows[way] = {
            "seconds": list(times),
            "median_seconds": median,
            "sentences_per_second": sentences / median,
            "operations_per_second": operations / median,
            "share_of_matrix_rate": operations / median / possible,
        }
    return rows


def table(rows: Mapping[str, Mapping[str, Any]], ours: str) -> str:
    """Formats the result of `summarize`, with times relative to ours."""
    base = rows[ours]["median_seconds"]
    return format_table(
        ("way", "median s", "spread", "sentences/s", "GFLOP/s", "of product", "times ours"),
        [
            [
                way,
                f"{row['median_seconds']:.4f}",
                f"{min(row['seconds']):.4f} to {max(row['seconds']):.4f}",
                f"{row['sentences_per_second']:.2f}",
                f"{row['operations_per_second'] / 1e9:.0f}",
                f"{row['share_of_matrix_rate']:.0%}",
                f"{row['median_seconds'] / base:.2f}",
            ]
            for way, row in rows.items()
        ],
    )
