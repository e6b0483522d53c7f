"""Writes `tables.md` from the results of `benchmarks.compile_all`.

python -m benchmarks.compiled.tables docs/results/compiled
"""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.compiled.devices import DEVICES, GIB, TPU
from lts_jax.io.files import write_text

SHARE = 0.9  # share of the memory
GPUS = (16, 24, 40, 80, 140)  # GB


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """Returns the results by file name, with the folder and without the suffix."""
    files = sorted(path for path in folder.rglob("*.json"))
    return {
        path.relative_to(folder).with_suffix("").as_posix(): json.loads(path.read_text("utf-8"))
        for path in files
    }


def fitting(result: dict[str, Any], memory: float) -> int:
    """Returns the number of sentences that fit in a share of a device's memory.

    The size of the state is constant; everything else grows with the batch.
    """
    plan = result["programs"]["train"]["memory"]
    each = plan["temporaries"] * result["devices"] / result["batch"]
    return max(0, int((SHARE * memory - plan["arguments"]) / each))


def markdown(results: dict[str, dict[str, Any]]) -> str:
    """Returns all tables as Markdown."""
    return "\n\n".join(
        (
            "Made by `python -m benchmarks.compiled.tables`; compiled, not measured.",
            "## A training step on one device\n\n" + _table(_header(), _devices(results)),
            f"## Sentences in {SHARE:.0%} of the memory, as compiled for an H100\n\n"
            + _table(_memory_header(), _memory(results)),
            "## Every variant and config\n\n" + _table(_header(), _others(results)),
        )
    )


def _table(header: Sequence[str], rows: Iterator[list[str]]) -> str:
    lines = [list(header), ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _header() -> list[str]:
    return [
        "", "device", "sentences", "peak, MiB", "GFLOP a sentence", "traffic, MB a sentence",
        "between devices, MB", "model: ms", "model: sentences/s",
    ]  # fmt: skip


def _row(name: str, result: dict[str, Any]) -> list[str]:
    train, n = result["programs"]["train"], result["batch"]
    title = DEVICES[result["device"]].title.partition(",")[0]
    where = title if result["devices"] == 1 else f"{result['devices']} × {title}"
    if not train["compiled"]:
        return [name, where, str(n), train["error"].partition("\n")[0][:60], *[""] * 5]
    seconds = train["model"]["seconds"]
    return [
        name,
        where,
        str(n),
        f"{train['memory']['peak'] / 2**20:,.0f}",
        f"{train['operations'] / n / 1e9:,.0f}",
        f"{train['traffic']['bytes_per_example'] / 1e6:,.0f}",
        f"{train['traffic']['between_devices'] / 1e6:,.0f}",
        f"{1000 * seconds:.1f}",
        f"{n / seconds:,.0f}",
    ]


def _named(results: dict[str, dict[str, Any]], *folders: str) -> Iterator[list[str]]:
    for name, result in results.items():
        if name.startswith(folders) and "train" in result.get("programs", {}):
            yield _row(name, result)


def _devices(results: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    return _named(results, "train/", "traffic/", "devices/")


def _others(results: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    return _named(results, "variants/", "configs/")


def _memory_header() -> list[str]:
    chips = [of.title.partition(",")[0] for of in DEVICES.values() if isinstance(of, TPU)]
    return ["", "an example, MiB", *(f"{gb} GB GPU" for gb in GPUS), *chips]


def _memory(results: dict[str, dict[str, Any]]) -> Iterator[list[str]]:
    for name, result in results.items():
        if name.startswith("memory/") and result["programs"]["train"]["compiled"]:
            plan = result["programs"]["train"]["memory"]
            chips = [of.memory for of in DEVICES.values() if isinstance(of, TPU)]
            memories = [gb * GIB for gb in GPUS] + chips
            yield [
                name.removeprefix("memory/").replace("_", ", "),
                f"{plan['temporaries'] / result['batch'] / 2**20:,.0f}",
                *(str(fitting(result, memory)) for memory in memories),
            ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command line: the folder of the results."""
    (folder,) = map(Path, sys.argv[1:] if arguments is None else arguments)
    write_text(folder / "tables.md", markdown(read(folder)) + "\n")


if __name__ == "__main__":
    main()
