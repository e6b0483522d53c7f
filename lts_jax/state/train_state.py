"""The training state."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from lts_jax.models import Network


class TrainState(struct.PyTreeNode):
    """Everything that a training step changes."""

    step: jax.Array  # int32 scalar: training steps taken
    params: Any  # float32
    batch_stats: Any  # BatchNorm's running means and variances, float32
    opt_state: optax.OptState

    def network(self) -> "TrainState":
        """Returns the state without `opt_state`, which is two thirds of its size."""
        return self.replace(opt_state=())


def init_state(
    model: Network,
    optimizer: optax.GradientTransformation,
    seed: int,
    image_size: int,
    max_words: int,
) -> TrainState:
    """Initializes the state; meant to be called under `jax.jit`."""
    variables = model.init(
        jax.random.key(seed),
        jnp.zeros((1, image_size, image_size, 3)),
        jnp.zeros((1, max_words), jnp.int32),
        jnp.ones((1,), jnp.int32),
        train=False,
    )
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=optimizer.init(variables["params"]),
    )


def variables_of(state: TrainState) -> dict[str, Any]:
    """Returns the variables for `Network.apply`."""
    return {"params": state.params, "batch_stats": state.batch_stats}
