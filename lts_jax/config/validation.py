"""Says what is wrong with a config before anything is computed or written."""

import difflib
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lts_jax.configs.default import FIELDS
from lts_jax.configs.fields import flatten, plain_config
from lts_jax.errors import ConfigError

_TABLE = "lts_jax/configs/default.py"


def check_config(config: ConfigDict) -> None:
    """Raises ConfigError naming the first field whose value makes no sense by itself."""
    values = flatten(plain_config(config))
    for name in values:
        if name not in FIELDS:
            near = difflib.get_close_matches(name, FIELDS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ConfigError(
                f"{name}: unknown field{hint}; lts_jax/configs/default.py describes all"
            )
    for name, field in FIELDS.items():
        if name not in values:
            raise ConfigError(
                f"{name}: missing from the config; lts_jax/configs/default.py describes all"
            )
        check_local(name, values[name])
        for check in field.checks:
            if not check.accepts(values[name]):
                raise ConfigError(f"{name}={values[name]!r} {check.message}")
    _check_parts(values)


def check_divides(field: str, size: int, parts: int, over: str) -> None:
    """Raises ConfigError naming the nearest sizes where `size` is not a positive multiple."""
    if size <= 0 or size % parts:
        lower = size // parts * parts
        near = f"{lower} or {lower + parts}" if lower > 0 else str(parts)
        raise ConfigError(f"{field}={size} does not divide over {over}: take {near}")


def check_local(name: str, value: Any) -> None:
    """Raises ConfigError where a path is in a bucket: Python would make a local folder of it."""
    if isinstance(value, str) and "://" in value:
        raise ConfigError(
            f"{name}={value} is no path of this machine; docs/launch.md says how to reach a bucket"
        )


def _check_parts(values: Mapping[str, Any]) -> None:
    """Raises ConfigError where the parts of the network do not go together."""
    locate = values["model.locate"]
    divisor = 4 if locate == "transformer" else 2  # of halves; of heads and position encodings
    if values["model.fused_features"] % divisor:
        raise ConfigError(
            f"model.fused_features={values['model.fused_features']} must be a multiple of "
            f"{divisor} with model.locate={locate}"
        )
    if locate != "none":
        return
    if not values["model.fuse"]:
        raise ConfigError(
            "model.fuse=False with model.locate=none: the network would never see the "
            "sentence; change one of them"
        )
    for name, value in (("model.rounds", 1), ("train.location_weight", 0)):
        if values[name] != value:
            raise ConfigError(
                f"{name}={values[name]} needs a locator: set it to {value} where model.locate=none"
            )
