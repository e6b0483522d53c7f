"""The training state and the pure functions that are compiled."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lts_jax import losses, scoring, sharding
from lts_jax.models import LTS, Outputs, PreparedImage

Batch = dict[str, jax.Array]


class TrainState(struct.PyTreeNode):
    """Everything that a training step changes."""

    step: jax.Array  # int32 scalar: training steps taken
    params: Any  # float32
    batch_stats: Any  # BatchNorm's running means and variances, float32
    opt_state: optax.OptState

    def network(self) -> "TrainState":
        """The state without the optimizer's part, which is two thirds: `()` instead."""
        return self.replace(opt_state=())


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


def variables_of(state: TrainState) -> dict[str, Any]:
    """What `LTS.apply` takes."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def to_float(image: jax.Array) -> jax.Array:
    """Uint8 pixels to [0, 1]; there is no mean or variance to remove."""
    return image.astype(jnp.float32) / 255


def make_train_step(
    model: LTS,
    optimizer: optax.GradientTransformation,
    location_weight: float,
    mesh: Mesh,
    freeze_backbone: bool = False,
    accumulate: int = 1,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """One update by Eq. 13; returns the new state, and losses and gradient norm of the old one.

    A batch is of B sentences about N images, B / N about each, in a row: the same as if the images
    were repeated for their sentences, with less to compute.

    A frozen backbone encodes as in evaluation, and its parameters and statistics stay what they
    are, bit for bit.

    Accumulated, the batch is taken in K = `accumulate` parts, one after another: losses and
    gradients are the means over the parts, which are those of the whole batch, but for one thing:
    BatchNorm normalizes each part by the part's own statistics. The running ones move once an
    update, by the mean over the parts. Image i belongs to part i mod K, so that every device
    has a share of each part in its own memory, and a part is the same for any number of devices.

    Where the state is split, the parameters are put together before their use, and the gradients
    are taken apart behind it.
    """

    def gradients(params: Any, batch_stats: Any, batch: Batch) -> tuple[Any, Any, Any]:
        """Returns gradients, new running statistics and losses of a batch, or part of one."""

        def run(model: LTS) -> Outputs:
            features = model.encode_image(to_float(batch["image"]), train=not freeze_backbone)
            if freeze_backbone:  # no gradient, and so no backward pass
                features = jax.lax.stop_gradient(features)
            text = model.encode_text(batch["tokens"], batch["length"])
            return model.refer(features, text, train=True)

        def loss_fn(params: Any) -> tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]:
            variables = {"params": params, "batch_stats": batch_stats}
            outputs, updates = nn.apply(run, model, mutable=["batch_stats"])(variables)
            loss, parts = losses.total_loss(
                outputs, batch["truth4"], batch["truth8"], location_weight
            )
            return loss, (updates["batch_stats"], parts)

        grads, (new_stats, parts) = jax.grad(loss_fn, has_aux=True)(params)
        split = sharding.over_shards(grads, mesh)
        return jax.lax.with_sharding_constraint(grads, split), new_stats, parts

    def accumulated(params: Any, batch_stats: Any, batch: Batch) -> tuple[Any, Any, Any]:
        """The same, part by part."""
        place = NamedSharding(mesh, PartitionSpec(None, *sharding.BATCH))

        def in_parts(x: jax.Array) -> jax.Array:
            per_image = len(x) // len(batch["image"])
            x = jnp.swapaxes(x.reshape(-1, accumulate, per_image, *x.shape[1:]), 0, 1)
            x = x.reshape(accumulate, -1, *x.shape[3:])
            return jax.lax.with_sharding_constraint(x, place)

        def add(total: Any, part: Batch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, gradients(params, batch_stats, part)), None

        stacked = jax.tree.map(in_parts, batch)
        first = jax.tree.map(lambda x: x[0], stacked)
        shapes = jax.eval_shape(gradients, params, batch_stats, first)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        total, _ = jax.lax.scan(add, zeros, stacked)
        mean: tuple[Any, Any, Any] = jax.tree.map(lambda x: x / accumulate, total)
        return mean

    def train_step(state: TrainState, batch: Batch) -> tuple[TrainState, dict[str, jax.Array]]:
        whole = jax.lax.with_sharding_constraint(state.params, sharding.replicated(mesh))
        compute = gradients if accumulate == 1 else accumulated
        grads, batch_stats, parts = compute(whole, state.batch_stats, batch)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        if freeze_backbone:  # an update of zero would turn a negative zero around
            params = {**params, "backbone": state.params["backbone"]}
            # Nor is a mean over parts always what each of them is.
            batch_stats = {**batch_stats, "backbone": state.batch_stats["backbone"]}
        parts["gradient_norm"] = optax.tree.norm(grads)
        return TrainState(state.step + 1, params, batch_stats, opt_state), parts

    return train_step


def compile_train_step(
    model: LTS,
    optimizer: optax.GradientTransformation,
    location_weight: float,
    mesh: Mesh,
    freeze_backbone: bool = False,
    accumulate: int = 1,
    place: Any = None,
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """`make_train_step` under jit: the batch is split over the mesh, the state's memory reused.

    `place` says of each array of the state where it lies; None is a copy on every device.
    """
    copied = sharding.replicated(mesh)
    place = copied if place is None else place
    # On the CPU, XLA would find what is to be computed again equal to what there is, and keep it.
    on_cpu = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    remat_on_cpu = model.remat and mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
        make_train_step(model, optimizer, location_weight, mesh, freeze_backbone, accumulate),
        donate_argnums=0,
        in_shardings=(place, sharding.over_batch(mesh)),
        out_shardings=(place, copied),
        compiler_options=on_cpu if remat_on_cpu else None,
    )


def make_encode_step(model: LTS) -> Callable[[TrainState, jax.Array], PreparedImage]:
    """Encodes K images, uint8 `[K, S, S, 3]`, for all their sentences."""

    def encode_step(state: TrainState, image: jax.Array) -> PreparedImage:
        def run(model: LTS) -> PreparedImage:
            return model.prepare(model.encode_image(to_float(image), train=False))

        return nn.apply(run, model)(variables_of(state))

    return encode_step


def on_each_device(step: Callable[..., Any], mesh: Mesh) -> Callable[..., Any]:
    """Compiles a step of a state and of arrays whose leading axes are split over the mesh.

    By shard_map: every device runs the very program that a single one would run on its share, so
    that results do not depend on the number of devices, and nothing travels between them.
    """
    copied, split = PartitionSpec(), sharding.BATCH

    def on_mesh(state: TrainState, *arrays: Any) -> Any:
        specs = (copied, *[split] * len(arrays))
        return jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)(
            state, *arrays
        )

    return jax.jit(on_mesh)


def compile_encode_step(model: LTS, mesh: Mesh) -> Callable[[TrainState, jax.Array], PreparedImage]:
    """`make_encode_step` under jit: images and their features split over the mesh."""
    return on_each_device(make_encode_step(model), mesh)


def refer(model: LTS, state: TrainState, features: PreparedImage, batch: Batch) -> Outputs:
    """Runs the network behind the image encoder.

    Args:
      model: the network.
      state: with its parameters.
      features: of K images.
      batch: B sentences: `tokens` int32 `[B, T]`, `length` int32 `[B]`, and `image` int32 `[B]`,
        which of the K images each refers to.

    Returns:
      The logits of the B sentences.
    """

    def run(model: LTS) -> Outputs:
        text = model.encode_text(batch["tokens"], batch["length"])
        of_sentence = jax.tree.map(lambda x: x[batch["image"]], features)
        return model.refer(of_sentence, text, train=False)

    return nn.apply(run, model)(variables_of(state))


def make_score_step(
    model: LTS, threshold: float, *, pictures: bool = False
) -> Callable[[TrainState, PreparedImage, jax.Array, Batch], dict[str, jax.Array]]:
    """Predicts and scores B sentences about K encoded images; see `lts_jax.scoring.score`.

    The step takes the state, the images' features and placements int32 `[K, 6]`, and a batch as
    `refer` has it, with the packed masks `truth`.
    """

    def score_step(
        state: TrainState, features: PreparedImage, placement: jax.Array, batch: Batch
    ) -> dict[str, jax.Array]:
        return scoring.score(
            refer(model, state, features, batch),
            placement[batch["image"]],
            batch["truth"],
            image_size=8 * features.taps.stride8.shape[1],
            threshold=threshold,
            pictures=pictures,
        )

    return score_step


def compile_score_step(
    model: LTS, threshold: float, mesh: Mesh, *, pictures: bool = False
) -> Callable[[TrainState, PreparedImage, jax.Array, Batch], dict[str, jax.Array]]:
    """`make_score_step` under jit: images and sentences split over the mesh.

    A device finds the images of its sentences in its own memory: `image` counts those alone.
    """
    return on_each_device(make_score_step(model, threshold, pictures=pictures), mesh)
