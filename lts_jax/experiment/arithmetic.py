"""JAX's settings that change what a run computes: fixed, or recorded with the run.

JAX reads most of them from the environment, where another program may have left them.
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
"""Settings with which alone a run is the run of its config and a checkpoint is read as saved."""

_RECORDED = (
    "jax_default_matmul_precision",
    "jax_softmax_custom_jvp",
    "jax_disable_jit",
    "jax_disable_most_optimizations",
    "jax_exec_time_optimization_effort",
    "jax_optimization_level",
)
# Of XLA_FLAGS: not those of scheduling, memory, autotuning and dumps.
_XLA_FLAG = re.compile(r"--\S*(?:fast_math|precision|tf32|bf16|f16|determinis)\S*")


def fix() -> None:
    """Sets the fixed settings, with a warning for each that was another; every command calls it."""
    for name, value in _other_settings().items():
        logger.warning("%s=%s is ignored: lts_jax computes with %s", name, value, FIXED[name])
        jax.config.update(name, FIXED[name])


def check() -> None:
    """Raises ConfigError naming the settings of this program that are not the fixed ones."""
    if others := _other_settings():
        listed = ", ".join(f"{name}={value}" for name, value in others.items())
        calls = "; ".join(f"jax.config.update({name!r}, {FIXED[name]!r})" for name in others)
        raise ConfigError(f"{listed} changes the arithmetic of lts_jax: call {calls}")


def _other_settings() -> dict[str, Any]:
    """Returns the present values of the fixed settings that are not as they should be."""
    values = {name: jax.config.values[name] for name in FIXED}
    values = {name: getattr(value, "value", value) for name, value in values.items()}
    return {name: value for name, value in values.items() if value != FIXED[name]}


def describe() -> dict[str, str]:
    """Returns the settings that a user may choose and that change results, by name."""
    settings = {name: str(jax.config.values[name]) for name in _RECORDED}
    flags = _XLA_FLAG.findall(os.environ.get("XLA_FLAGS", ""))
    return settings | {
        "XLA_FLAGS": " ".join(sorted(flags)),
        "NVIDIA_TF32_OVERRIDE": os.environ.get("NVIDIA_TF32_OVERRIDE", ""),
    }


def warn_if_changed(workdir: Path, now: Mapping[str, str]) -> None:
    """Logs a warning naming the settings in which a run differs from what its run.json records.

    Args:
      workdir: of the run.
      now: of this process, from `describe`.
    """
    try:
        recorded = json.loads((workdir / "run.json").read_text(encoding="utf-8"))["arithmetic"]
        changed = {name: recorded[name] for name in now if recorded[name] != now[name]}
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return  # nothing is recorded; whoever needs the file says what is wrong with it
    for name, value in changed.items():
        logger.warning(
            "%s was trained with %s=%s, and this is with %s: results differ slightly",
            workdir,
            name,
            value or "''",
            now[name] or "''",
        )
