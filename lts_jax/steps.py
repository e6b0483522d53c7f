"""The training state and the pure functions that are compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jax.sharding import Mesh

from lts_jax import losses, mapping, sharding
from lts_jax.models import LTS

Batch = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """Everything that a training step changes."""

    step: jax.Array  # int32 scalar: training steps taken
    params: Any  # float32
    batch_stats: Any  # BatchNorm's running means and variances, float32
    opt_state: optax.OptState


def init_state(
    model: LTS, optimizer: optax.GradientTransformation, seed: int, image_size: int, max_words: int
) -> TrainState:
    """Draws the parameters; meant to be called under `jax.jit`."""
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


def to_float(image: jax.Array) -> jax.Array:
    """Uint8 pixels to [0, 1]; there is no mean or variance to remove."""
    return image.astype(jnp.float32) / 255


def make_train_step(
    model: LTS, optimizer: optax.GradientTransformation, location_weight: float
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """One update by Eq. 13; returns the new state, and losses and gradient norm of the old one."""

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        def loss_fn(params: Any) -> tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]:
            outputs, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                to_float(batch["image"]),
                batch["tokens"],
                batch["length"],
                train=True,
                mutable=["batch_stats"],
            )
            loss, parts = losses.total_loss(
                outputs, batch["truth4"], batch["truth8"], location_weight
            )
            return loss, (updates["batch_stats"], parts)

        grads, (batch_stats, parts) = jax.grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        parts["gradient_norm"] = optax.tree.norm(grads)
        return TrainState(state.step + 1, params, batch_stats, opt_state), parts

    return train_step


def compile_train_step(
    model: LTS, optimizer: optax.GradientTransformation, location_weight: float, mesh: Mesh
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """`make_train_step` under jit: the batch is split over the mesh, the state's memory reused."""
    copied = sharding.replicated(mesh)
    return jax.jit(
        make_train_step(model, optimizer, location_weight),
        donate_argnums=0,
        in_shardings=(copied, sharding.over_batch(mesh)),
        out_shardings=copied,
    )


def make_eval_step(
    model: LTS, threshold: float, canvas: tuple[int, int]
) -> Callable[[TrainState, Batch], dict[str, jax.Array]]:
    """Predicts and scores at the original sizes.

    The step returns `prediction` bool `[B, *canvas]`, `intersection` and `union` int32 `[B]` in
    pixels, `pointing` bool `[B]`, and `heatmap` float32 `[B, H/8, W/8]`: the last round's
    probabilities.
    """

    def eval_step(state: TrainState, batch: Batch) -> dict[str, jax.Array]:
        outputs: Any = model.apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            to_float(batch["image"]),
            batch["tokens"],
            batch["length"],
            train=False,
        )
        placement = batch["placement"]
        stride = batch["image"].shape[1] // outputs.mask.shape[1]
        probability = mapping.to_original_size(
            jax.nn.sigmoid(outputs.mask), placement, canvas, stride
        )
        prediction = probability > threshold
        truth = batch["truth"] > 0
        heatmap = outputs.heatmap[:, -1]
        stride = batch["image"].shape[1] // heatmap.shape[1]
        row, column, inside = mapping.peak_at_original_size(heatmap, placement, stride)
        return {
            "prediction": prediction,
            "intersection": jnp.sum(prediction & truth, axis=(1, 2), dtype=jnp.int32),
            "union": jnp.sum(prediction | truth, axis=(1, 2), dtype=jnp.int32),
            "pointing": truth[jnp.arange(len(row)), row, column] & inside,
            "heatmap": jax.nn.sigmoid(heatmap),
        }

    return eval_step


def compile_eval_step(
    model: LTS, threshold: float, canvas: tuple[int, int], mesh: Mesh
) -> Callable[[TrainState, Batch], dict[str, jax.Array]]:
    """`make_eval_step` under jit, the batch split over the mesh."""
    return jax.jit(
        make_eval_step(model, threshold, canvas),
        in_shardings=(sharding.replicated(mesh), sharding.over_batch(mesh)),
        out_shardings=sharding.over_batch(mesh),
    )
