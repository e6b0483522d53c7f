"""The paper's optimizer: Adam with a piecewise constant learning rate (Section 4.1)."""

from collections.abc import Sequence

import optax


def make_schedule(
    learning_rate: float, drops: Sequence[float], drop_factor: float, steps_per_epoch: float
) -> optax.Schedule:
    """Learning rate by step: multiplied by `drop_factor` at each epoch of `drops`."""
    boundaries = {round(epoch * steps_per_epoch): drop_factor for epoch in drops}
    return optax.piecewise_constant_schedule(learning_rate, boundaries)


def make_optimizer(schedule: optax.Schedule) -> optax.GradientTransformation:
    """Adam with its published defaults (Kingma and Ba, 2014)."""
    return optax.adam(schedule)
