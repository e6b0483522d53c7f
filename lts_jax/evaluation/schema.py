"""Schemas of an evaluation's JSON files, for `lts_jax.io.json_files`."""

from typing import Any

from lts_jax.config.flags import saved_config
from lts_jax.errors import ConfigError
from lts_jax.evaluation import failures
from lts_jax.evaluation.breakdowns import KINDS
from lts_jax.evaluation.metrics import GENERALIZED, METRIC_NAMES
from lts_jax.io.json_files import (
    MismatchError,
    anything,
    boolean,
    list_of,
    mapping,
    mapping_of,
    natural,
    number,
    optional,
    record,
    share,
    text,
    whole,
)

AGAIN = "evaluate again: lts eval --workdir DIR"
"""How to fix damaged files, for error messages."""


def config(value: Any) -> None:
    """Checks a saved config."""
    try:
        saved_config(value)
    except ConfigError as error:
        raise MismatchError(str(error)) from error


def _positive(value: Any) -> None:
    natural(value)
    if not value:
        raise MismatchError("0, expected a positive number")


def _compared(value: Any) -> None:
    """Checks the scores of a mask."""
    record({"intersection": natural, "union": natural}, {"box_iou": optional(share)})(value)
    if value["intersection"] > value["union"]:
        raise MismatchError(f"{value['intersection']} is larger than the union", "intersection")


def _scored(value: Any) -> None:
    record(_SCORED, _MAYBE_SCORED)(value)
    _compared(value)


def _masked(value: Any) -> None:
    """Checks a mask and its IoU."""
    record({"iou": share, "segmentation": record({"size": list_of(_positive, 2), "counts": text})})(
        value
    )


def _prediction(value: Any) -> None:
    _scored(value)
    _masked(value)
    record({"ref_id": whole}, {"other": _masked})(value)


def _curve(*names: str) -> Any:
    """Returns a check of lists of shares that have equal lengths."""

    def check(value: Any) -> None:
        record(dict.fromkeys(names, list_of(share, least=1)))(value)
        for name in names:
            list_of(anything, len(value[names[0]]))(value[name])

    return check


def _interval(value: Any) -> None:
    list_of(share, 2)(value)


_SCORED = {
    "sent_id": whole,
    "image_id": whole,
    "sentence": text,
}
_MAYBE_SCORED = {
    "kind": text,
    "hit": optional(boolean),
    "area": natural,
    "other": _compared,
}
_METRICS = dict.fromkeys(METRIC_NAMES, optional(share)) | {"oiou": share, "miou": share}
_GENERALIZED = dict.fromkeys(GENERALIZED, optional(share))
_INTERVALS = record(
    dict.fromkeys(METRIC_NAMES, optional(_interval)) | {"miou": _interval},
    dict.fromkeys(GENERALIZED, optional(_interval)),
)
_GROUP = record(
    {"group": text, "sentences": _positive, "intervals": _INTERVALS, **_METRICS}, _GENERALIZED
)

_ANALYSIS = {
    "intervals": _INTERVALS,
    "failures": record(dict.fromkeys(failures.KINDS, natural)),
    "precision_curve": _curve("iou", "share"),
    "breakdowns": record(dict.fromkeys(KINDS, list_of(_GROUP))),
}
_THRESHOLD = {"threshold": share, "chosen_on": text}

RUN = record(
    {
        "step": natural,
        "config": config,
        "data": mapping,
        "trained_on": mapping,
        "devices": text,
        "versions": record({"jax": text, "lts_jax": text}),
    }
)
"""Schema of run.json of an evaluation."""

TRAINED_RUN = record({"config": config})
"""Schema of run.json of a workdir."""

METRICS = record(
    {"sentences": _positive, "images": _positive, **_METRICS},
    _GENERALIZED | _THRESHOLD | {"other": record(_METRICS | _THRESHOLD, _GENERALIZED)},
)
"""Schema of metrics.json."""

ANALYSIS = record(
    {
        "draws": _positive,
        "kinds_recorded": boolean,
        **_ANALYSIS,
        "threshold_curve": optional(_curve("threshold", "oiou", "miou")),
    },
    _THRESHOLD | {"other": record(_ANALYSIS | _THRESHOLD)},
)
"""Schema of analysis.json."""

PREDICTIONS = list_of(_prediction, least=1)
"""Schema of predictions.json of an evaluation."""

SCORED = list_of(_scored, least=1)
"""Schema of predictions.json of an evaluation or `lts score`, for comparisons."""


def log_line(value: Any) -> None:
    """Checks a line of metrics.jsonl: `step` and numbers by name."""
    record({"step": natural})(value)
    mapping_of(number)(value)
