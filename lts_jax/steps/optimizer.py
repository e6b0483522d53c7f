"""The paper's optimizer: Adam with a piecewise constant learning rate (Section 4.1).

The common options for fine-tuning pretrained transformers are off by default: decoupled weight
decay, gradient clipping, warm-up, polynomial decay, and a moving average of the weights.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import optax

from lts_jax.configs.default import FIELDS
from lts_jax.steps.averaging import average_weights

PARTS = tuple(
    name.removeprefix("train.lr_multipliers.")
    for name in FIELDS
    if name.startswith("train.lr_multipliers.")
)
"""Parts of the network that can have their own learning rate."""


_PART_OF = {"head": "segmenter", "pointrend": "segmenter", "attention": "fusion"}


def make_schedule(
    learning_rate: float,
    drops: Sequence[float],
    drop_factor: float,
    steps_per_epoch: float,
    warmup_epochs: float = 0.0,
    decay_power: float = 0.0,
    total_steps: int = 0,
) -> optax.Schedule:
    """Returns the learning rate schedule, a function of the step.

    Args:
      learning_rate: initial learning rate.
      drops: epochs at which the learning rate is multiplied by `drop_factor`.
      drop_factor: factor applied at each of the `drops`.
      steps_per_epoch: may be a fraction.
      warmup_epochs: length of the linear warm-up; may be a fraction.
      decay_power: multiplies the learning rate by (1 - step / total_steps) to this power; 0: no
        decay.
      total_steps: number of steps of the run.
    """
    boundaries = {round(epoch * steps_per_epoch): drop_factor for epoch in drops}
    schedules = [optax.piecewise_constant_schedule(learning_rate, boundaries)]
    if warmup := round(warmup_epochs * steps_per_epoch):
        schedules.append(optax.linear_schedule(1 / (warmup + 1), 1.0, warmup))
    if decay_power:
        schedules.append(optax.polynomial_schedule(1.0, 0.0, decay_power, total_steps))
    if len(schedules) == 1:
        return schedules[0]
    return lambda step: math.prod(schedule(step) for schedule in schedules)


def make_optimizer(
    schedule: optax.Schedule,
    multipliers: Mapping[str, float] | None = None,
    frozen: Collection[str] = (),
    weight_decay: float = 0.0,
    clip_norm: float = 0.0,
    ema: float = 0.0,
) -> optax.GradientTransformation:
    """Returns Adam with its published defaults (Kingma and Ba, 2014), one instance per part.

    Args:
      schedule: learning rate as a function of the step.
      multipliers: learning rate multipliers by part (`PARTS`); 1 if omitted.
      frozen: parts without updates and without Adam moments, like parts with a multiplier of 0.
      weight_decay: decoupled, as in AdamW (Loshchilov and Hutter, 2019). Applies to kernels and
        embeddings, but not to biases, norms and other vectors.
      clip_norm: maximum global norm of the gradients; 0: no clipping.
      ema: decay of the moving average of the parameters; 0: no averaging.
    """

    def adam(learning_rate: optax.Schedule) -> optax.GradientTransformation:
        if not weight_decay:
            return optax.adam(learning_rate)
        return optax.adamw(learning_rate, weight_decay=weight_decay, mask=decays)

    def of_part(factor: float) -> optax.GradientTransformation:
        return adam(lambda step: factor * schedule(step)) if factor else optax.set_to_zero()

    factors = {**dict.fromkeys(PARTS, 1.0), **(multipliers or {}), **dict.fromkeys(frozen, 0.0)}
    if all(factor == 1 for factor in factors.values()):
        optimizer = adam(schedule)
    else:
        optimizer = optax.multi_transform({k: of_part(v) for k, v in factors.items()}, parts_of)
    if clip_norm:
        optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optimizer)
    return average_weights(optimizer, ema) if ema else optimizer


def decays(params: Any) -> Any:
    """Returns a mask of the parameters that weight decay applies to: kernels and embeddings."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path[-1].key in ("kernel", "embedding"), params
    )


def parts_of(params: Any) -> Any:
    """Returns the part (one of `PARTS`) of each parameter of a `lts_jax.models.Network`."""

    def of_path(path: tuple[Any, ...], _: Any) -> str:
        names = [key.key for key in path]
        if names[:2] == ["text", "embed"]:
            return "words"
        return _PART_OF.get(names[0], str(names[0]))

    return jax.tree_util.tree_map_with_path(of_path, params)
