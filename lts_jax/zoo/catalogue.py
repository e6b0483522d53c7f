"""Which trained networks come with the package."""

from pathlib import Path
from typing import Any

from lts_jax.io.json_files import mapping, natural, optional, read_json, record, share, text

_FOLDER = Path(__file__).parent
CARD = "README.md"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
VOCABULARY = "vocabulary.json"
FILES = (CONFIG, WEIGHTS, VOCABULARY)
"""What a folder of a network must hold."""

DESCRIPTION = record(
    {
        "config": mapping,
        "step": natural,
        "data": mapping,
        "weights": mapping,
        "sha256": text,
        "about": text,
        "scores": mapping,
    },
    {"best_threshold": optional(share)},
)
"""Shape of config.json: the run's config, its best step, what it was trained on, where its first
weights came from, the hash of model.safetensors, a line about it, metrics by split, and the
threshold that is best on the config's `eval.best_split`."""
FIX = "get the folder again, or write it again with `lts export`"


def names() -> list[str]:
    """Returns the names of the networks."""
    return sorted(path.parent.name for path in _FOLDER.glob(f"*/{CONFIG}"))


def folder(name: str) -> Path | None:
    """Returns the folder of a network; None if there is no such name."""
    return _FOLDER / name if name in names() else None


def describe(path: Path) -> dict[str, Any]:
    """Reads config.json of a folder; `DESCRIPTION` says what it holds.

    Raises:
      ConfigError: it is missing or something else.
    """
    described: dict[str, Any] = read_json(path / CONFIG, DESCRIPTION, FIX)
    return described
