"""Lists the trained networks included in the package."""

from pathlib import Path
from typing import Any

from lts_jax.io.json_files import mapping, natural, optional, read_json, record, share, text

_FOLDER = Path(__file__).parent
CARD = "README.md"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
VOCABULARY = "vocabulary.json"
FILES = (CONFIG, WEIGHTS, VOCABULARY)
"""The required files in a network's folder."""

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
"""Schema of config.json: the run's config, its best step, the training data, the source of the
initial weights, the hash of model.safetensors, a one-line description, metrics by split, and the
threshold that is best on the config's `eval.best_split`."""
FIX = "download the folder again, or recreate it with `lts export`"


def names() -> list[str]:
    """Returns the names of the networks."""
    return sorted(path.parent.name for path in _FOLDER.glob(f"*/{CONFIG}"))


def folder(name: str) -> Path | None:
    """Returns the folder of a network, or None if the name is unknown."""
    return _FOLDER / name if name in names() else None


def describe(path: Path) -> dict[str, Any]:
    """Reads config.json of a folder; see `DESCRIPTION` for its fields.

    Raises:
      ConfigError: the file is missing or invalid.
    """
    described: dict[str, Any] = read_json(path / CONFIG, DESCRIPTION, FIX)
    return described
