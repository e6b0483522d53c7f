"""JAX settings that change the results of a run: set to fixed values, or recorded with the run.

JAX reads most of them from environment variables, which may be set for other programs.
"""

import json
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from lts_jax.errors import ConfigError

logger = logging.getLogger(__name__)

FIXED: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_enable_custom_prng": False,
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
}
"""Required values of JAX settings; other values change the results of configs and checkpoints."""

_RECORDED = (
    "jax_default_matmul_precision",
    "jax_softmax_custom_jvp",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_exec_time_optimization_effort",
    "jax_optimization_level",
)
# Flags in XLA_FLAGS that change numerical results; others, such as for dumps, are not recorded.
_XLA_FLAG = re.compile(r"--\S*(?:fast_math|precision|tf32|bf16|f16|determinis)\S*")


def fix() -> None:
    """Applies the fixed settings and warns about each that differed; every command calls it."""
    for name, value in _other_settings().items():
        logger.warning("%s=%s is ignored: lts_jax always uses %s", name, value, FIXED[name])
        jax.config.update(name, FIXED[name])


def check() -> None:
    """Raises ConfigError if a fixed setting of this program has another value."""
    if others := _other_settings():
        listed = ", ".join(f"{name}={value}" for name, value in others.items())
        calls = "; ".join(f"jax.config.update({name!r}, {FIXED[name]!r})" for name in others)
        raise ConfigError(f"{listed}: lts_jax does not support this setting; call {calls}")


def _other_settings() -> dict[str, Any]:
    """Returns the current values of the fixed settings that differ."""
    values = {name: jax.config.values[name] for name in FIXED}
    values = {name: getattr(value, "value", value) for name, value in values.items()}
    return {name: value for name, value in values.items() if value != FIXED[name]}


def describe() -> dict[str, str]:
    """Returns the settings that users may change and that affect results, by name."""
    settings = {name: str(jax.config.values[name]) for name in _RECORDED}
    flags = _XLA_FLAG.findall(os.environ.get("XLA_FLAGS", ""))
    return settings | {
        "XLA_FLAGS": " ".join(sorted(flags)),
        "NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE", ""),
    }


def warn_if_changed(workdir: Path, now: Mapping[str, str]) -> None:
    """Logs a warning for each setting that differs from the run's run.json.

    Args:
      workdir: of the run.
      now: settings of this process, from `describe`.
    """
    try:
        recorded = json.loads((workdir / "run.json").read_text(encoding="utf-8"))["arithmetic"]
        changed = {name: recorded[name] for name in now if recorded[name] != now[name]}
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return  # nothing is recorded; code that needs the file reports its errors
    for name, value in changed.items():
        logger.warning(
            "%s was trained with %s=%s, but this process uses %s: results may differ slightly",
            workdir,
            name,
            value or "''",
            now[name] or "''",
        )
