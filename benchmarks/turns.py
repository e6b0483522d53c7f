"""Timing by turns, so that what a machine does beside falls on all alike."""

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from lts_jax.writers import format_table

T = TypeVar("T")


def take_turns(
    ways: Mapping[str, Callable[[], T]], repeats: int
) -> tuple[dict[str, T], dict[str, list[float]]]:
    """Times a call of each way once a round; who is first goes round too.

    A way returns when its work is done. Each turn begins with a call that is not timed: it compiles
    and warms up, and takes back what the others displaced. On a virtual machine whose host takes
    freed memory back, that is seconds for each gigabyte (docs/performance.md).

    Returns:
      By way, what it returned last without being timed, and the seconds of each round's.
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
    """Measures the device's rate at a large matrix product, operations per second."""
    device = jax.devices()[0]
    side = 2048 if device.platform == "cpu" else 8192
    a = jnp.ones((side, side), dtype)
    product = jax.jit(lambda x: x @ x)
    _, seconds = take_turns({"": lambda: product(a).block_until_ready()}, 9)
    return 2 * side**3 / statistics.median(seconds[""])


def peak_memory() -> int | None:
    """Returns the most memory that JAX has held on the device, bytes; None where it is not told."""
    stats = jax.devices()[0].memory_stats()
    return stats.get("peak_bytes_in_use") if stats else None


def summarize(
    seconds: Mapping[str, Sequence[float]],
    sentences: int,
    operations: int,
    rate: float,
    devices: int = 1,
) -> dict[str, dict[str, Any]]:
    """Medians, spread, sentences and operations per second of each way.

    Args:
      seconds: of each turn, by way.
      sentences: in a turn.
      operations: floating-point ones that our network needs in a turn; those that another way
        computes beyond them are no work done.
      rate: what `matrix_rate` measures, of one device.
      devices: that "ours" runs on; a peer runs on one.
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
    """Formats what `summarize` returns, with each way's time as a multiple of ours."""
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


def load_average() -> float:
    """Returns the number of processes that want a core, over the last minute."""
    return os.getloadavg()[0]
