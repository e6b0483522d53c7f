"""The paper's optimizer: Adam with a piecewise constant learning rate (Section 4.1)."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import optax

from lts_jax.configs.default import FIELDS

PARTS = tuple(
    name.removeprefix("train.lr_multipliers.")
    for name in FIELDS
    if name.startswith("train.lr_multipliers.")
)
"""Parts of the network, each of which may have a learning rate of its own."""


def make_schedule(
    learning_rate: float, drops: Sequence[float], drop_factor: float, steps_per_epoch: float
) -> optax.Schedule:
    """Learning rate by step: multiplied by `drop_factor` at each epoch of `drops`."""
    boundaries = {round(epoch * steps_per_epoch): drop_factor for epoch in drops}
    return optax.piecewise_constant_schedule(learning_rate, boundaries)


def make_optimizer(
    schedule: optax.Schedule,
    multipliers: Mapping[str, float] | None = None,
    frozen: Collection[str] = (),
) -> optax.GradientTransformation:
    """Adam with its published defaults (Kingma and Ba, 2014), one for each part of the network.

    Args:
      schedule: learning rate by step.
      multipliers: of the learning rate, by part (`PARTS`); 1 for parts not named.
      frozen: parts without updates and without Adam's moments, as those with a multiplier of 0.
    """
    factors = {**dict.fromkeys(PARTS, 1.0), **(multipliers or {}), **dict.fromkeys(frozen, 0.0)}
    if all(factor == 1 for factor in factors.values()):
        return optax.adam(schedule)

    def of_part(factor: float) -> optax.GradientTransformation:
        return optax.adam(lambda step: factor * schedule(step)) if factor else optax.set_to_zero()

    return optax.multi_transform({k: of_part(v) for k, v in factors.items()}, parts_of)


def parts_of(params: Any) -> Any:
    """Names the part, one of `PARTS`, of each parameter of `lts_jax.models.LTS`."""

    def of_path(path: tuple[Any, ...], _: Any) -> str:
        names = [key.key for key in path]
        if names[:2] == ["text", "embed"]:
            return "words"
        return "segmenter" if names[0] == "head" else str(names[0])

    return jax.tree_util.tree_map_with_path(of_path, params)
