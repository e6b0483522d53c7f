"""Names and schemas of the files in a checkpoint."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import grain

from lts_jax.errors import ConfigError
from lts_jax.io.json_files import (
    list_of,
    mapping,
    natural,
    number,
    read_json,
    record,
    share,
    text,
)

logger = logging.getLogger(__name__)

BEST_METRIC = "oiou"
DESCRIBED = ("config", "data", "vocabulary", "weights")  # JSON items, each with a checksum
JSON_ITEMS = (*DESCRIBED, "checksums")
_SHAPES = {
    "config": mapping,
    "data": mapping,
    "vocabulary": list_of(text),
    "weights": mapping,
    "checksums": record(
        {"network": natural, "optimizer": natural} | dict.fromkeys(("iterator", *DESCRIBED), text)
    ),
}
_PATTERN = re.compile(r"[*?\[\]\\]")  # Orbax and TensorStore interpret these as patterns


def item_options() -> dict[str, Any]:
    """Returns the items of a checkpoint and their handlers, for Orbax."""
    return {
        "item_names": ("state", "iterator", *JSON_ITEMS),
        "item_handlers": {"iterator": grain.checkpoint.CheckpointHandler()},
    }


def read_items(folder: Path, names: Sequence[str]) -> dict[str, Any]:
    """Reads JSON items of a checkpoint.

    Raises:
      ConfigError: an item is missing, damaged or does not match its schema.
    """
    # "metadata" is Orbax's file name.
    return {name: read_json(folder / name / "metadata", _SHAPES[name], "") for name in names}


class Score(NamedTuple):
    """Result of a checkpoint's evaluation on `eval.best_split`.

    Attributes:
      value: the best metric, by which checkpoints are compared.
      best_threshold: see `lts_jax.experiment.thresholds`; None if unknown.
    """

    value: float
    best_threshold: float | None


def read_score(folder: Path) -> Score | None:
    """Reads the score of a checkpoint, or None if it was not evaluated."""
    path = folder / "metrics" / "metrics"
    if not path.exists():
        return None
    try:
        metrics = read_json(path, record({BEST_METRIC: number}, {"best_threshold": share}), "")
    except ConfigError as error:
        why = str(error).removesuffix("; ")
        logger.warning("%s cannot be read; treating the checkpoint as not evaluated: %s", path, why)
        return None
    return Score(float(metrics[BEST_METRIC]), metrics.get("best_threshold"))


def split_path(checkpoint: Path) -> tuple[Path, int]:
    """Splits `<workdir>/checkpoints/<step>`; raises ConfigError for any other path."""
    workdir, name = checkpoint.parent.parent, checkpoint.name
    if checkpoint.parent.name != "checkpoints" or not name.isdecimal():
        raise ConfigError(
            f"--checkpoint {checkpoint} must be a step's folder, like runs/shapes/checkpoints/934"
        )
    return workdir, int(name)


def check_path(workdir: Path) -> None:
    """Raises ConfigError if Orbax cannot read checkpoints from a workdir's path."""
    path = str(workdir.resolve())
    odd = sorted(set(_PATTERN.findall(path)))
    if any("\ud800" <= letter <= "\udfff" for letter in path):
        odd = ["bytes that are not UTF-8"]
    if odd:
        raise ConfigError(
            f"--workdir {path}: Orbax cannot read checkpoints from a path with {' '.join(odd)}: "
            "rename the folder or choose another one"
        )
