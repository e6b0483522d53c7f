"""One training step: losses, gradients and the update of the state."""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

from lts_jax.distributed.mesh import BATCH, over_batch, over_shards, replicated
from lts_jax.models import Network, Outputs
from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.network import Encoded, LocationLoss
from lts_jax.state.train_state import TrainState
from lts_jax.steps.averaging import trained_params
from lts_jax.steps.inference import Batch, to_float

Losses = dict[str, jax.Array]
Gradients = tuple[Any, Any, Losses]  # gradients, running statistics, losses
Step = Callable[[TrainState, Batch], tuple[TrainState, Losses]]


@dataclasses.dataclass(frozen=True)
class StepSettings:
    """Settings of a training step.

    Attributes:
      model: the network.
      optimizer: optimizer of the parameters.
      location_weight: λ of Eq. 13.
      mesh: the devices.
      freeze_backbone: encode images as in evaluation; the backbone's parameters and BatchNorm
        statistics stay bitwise identical.
      accumulate: number of microbatches per batch.
      freeze_text: encode sentences as in evaluation; the sentence encoder's parameters are frozen.
      seed: seed of dropout, stochastic depth and inserted words; None if the step is
        deterministic.
      dice_weight: weight of the Dice losses; 0: no Dice loss.
      noise_words: maximum number of words that `insert_word` inserts into a sentence; requires a
        `seed`.
      location_loss: loss of the heatmap, see `lts_jax.models.losses.total_loss`.
    """

    model: Network
    optimizer: optax.GradientTransformation
    location_weight: float
    mesh: Mesh
    freeze_backbone: bool = False
    accumulate: int = 1
    freeze_text: bool = False
    seed: int | None = None
    dice_weight: float = 0.0
    noise_words: int = 0
    location_loss: LocationLoss = "bce"

    @property
    def frozen(self) -> list[str]:
        """The names of the frozen parts."""
        parts = {"backbone": self.freeze_backbone, "text": self.freeze_text}
        return [name for name, frozen in parts.items() if frozen]


def loss_fn(
    params: Any,
    batch_stats: Any,
    batch: Batch,
    settings: StepSettings,
    key: jax.Array | None = None,
) -> tuple[jax.Array, tuple[Any, Losses]]:
    """Computes the loss of a batch, `Network.loss`.

    `key` seeds dropout, stochastic depth and inserted words.

    A batch has B sentences about N images, with B / N consecutive sentences per image. The result
    is the same as with each image repeated for its sentences, but costs less. With a frozen
    backbone, the batch may contain the backbone's features (a tuple) instead of the images.

    Returns:
      The loss, and a pair of the new running statistics and the losses by name.
    """

    def run(model: Network) -> Outputs:
        features = _encode(model, batch["image"], settings)
        if settings.freeze_backbone:  # no gradient, so no backward pass
            features = jax.lax.stop_gradient(features)
        train_text = not settings.freeze_text
        text = model.encode_text(tokens, length, train=train_text)
        if settings.freeze_text:
            text = jax.lax.stop_gradient(text)
        return model.refer(features, text, train=True)

    tokens, length = batch["tokens"], batch["length"]
    for i in range(settings.noise_words):
        assert key is not None
        each = jax.random.fold_in(key, i + 1)
        tokens, length = insert_word(tokens, length, settings.model.vocab_size, each)
    variables = {"params": params, "batch_stats": batch_stats}
    rngs = {} if key is None else {"dropout": key}
    outputs, updates = nn.apply(run, settings.model, mutable=["batch_stats"])(variables, rngs=rngs)
    loss, by_name = settings.model.loss(
        outputs,
        batch["truth4"],
        batch["truth8"],
        settings.location_weight,
        settings.dice_weight,
        settings.location_loss,
        batch.get("truth1"),
    )
    return loss, (updates["batch_stats"], by_name)


def _encode(model: Network, image: Any, settings: StepSettings) -> Encoded:
    """Encodes images, or returns the precomputed features of a frozen backbone."""
    if isinstance(image, tuple):
        return ImageFeatures(*(tap.astype(model.dtype) for tap in image))
    return model.encode_image(to_float(image), train=not settings.freeze_backbone)


def insert_word(
    tokens: Int[Array, "b t"], length: Int[Array, " b"], vocab_size: int, key: jax.Array
) -> tuple[Int[Array, "b t"], Int[Array, " b"]]:
    """Inserts a random word at a random position into about half of the sentences.

    This makes the network robust to words that say nothing about the object. Words that exceed the
    maximum length are cut, as in any long sentence.

    Args:
      tokens: word ids.
      length: sentence lengths.
      vocab_size: exclusive upper bound of the ids; ids 0 and 1 are not words.
      key: random key.
    """
    most = tokens.shape[1]
    keys = jax.random.split(key, 3)
    words = jax.random.randint(keys[0], length.shape, 2, max(vocab_size, 3))
    place = jax.random.randint(keys[1], length.shape, 0, length + 1)
    chosen = jax.random.bernoulli(keys[2], 0.5, length.shape)
    at = jnp.arange(most)
    moved = jnp.roll(tokens, 1, axis=1)
    longer = jnp.where(at < place[:, None], tokens, moved)
    longer = jnp.where(at == place[:, None], words[:, None], longer)
    inserted = jnp.where(chosen[:, None], longer, tokens).astype(tokens.dtype)
    return inserted, jnp.minimum(length + chosen, most).astype(length.dtype)


def compute_gradients(
    params: Any,
    batch_stats: Any,
    batch: Batch,
    settings: StepSettings,
    key: jax.Array | None = None,
) -> Gradients:
    """Returns the gradients, new running statistics and losses of a batch or microbatch."""
    grads, (new_stats, by_name) = jax.grad(loss_fn, has_aux=True)(
        params, batch_stats, batch, settings, key
    )
    split = over_shards(grads, settings.mesh)
    return jax.lax.with_sharding_constraint(grads, split), new_stats, by_name


def accumulate_gradients(
    params: Any,
    batch_stats: Any,
    batch: Batch,
    settings: StepSettings,
    key: jax.Array | None = None,
) -> Gradients:
    """Runs `compute_gradients` on one microbatch at a time, to save memory.

    Losses and gradients are averaged over the microbatches. They equal those of the complete batch,
    except that BatchNorm normalizes each microbatch by its own statistics. The running statistics
    are updated once per step, by the mean over the microbatches. Image i belongs to microbatch
    i mod K, with K = `accumulate`: each device holds a share of each microbatch, and the
    microbatches are the same for any number of devices.
    """
    k = settings.accumulate
    place = NamedSharding(settings.mesh, PartitionSpec(None, *BATCH))
    images = len(jax.tree.leaves(batch["image"])[0])

    def microbatches(x: jax.Array) -> jax.Array:
        per_image = len(x) // images
        x = jnp.swapaxes(x.reshape(-1, k, per_image, *x.shape[1:]), 0, 1)
        x = jax.lax.with_sharding_constraint(x.reshape(k, -1, *x.shape[3:]), place)
        return x

    def add(total: Gradients, inputs: tuple[Batch, jax.Array | None]) -> tuple[Gradients, None]:
        microbatch, key = inputs
        one = compute_gradients(params, batch_stats, microbatch, settings, key)
        return jax.tree.map(jnp.add, total, one), None

    stacked = jax.tree.map(microbatches, batch)
    first = jax.tree.map(lambda x: x[0], stacked)
    shapes = jax.eval_shape(
        partial(compute_gradients, settings=settings, key=key), params, batch_stats, first
    )
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    keys = None if key is None else jax.random.split(key, k)
    total, _ = jax.lax.scan(add, zeros, (stacked, keys))
    mean: Gradients = jax.tree.map(lambda x: x / k, total)
    return mean


def train_step(
    state: TrainState, batch: Batch, settings: StepSettings
) -> tuple[TrainState, Losses]:
    """Updates the state once. Returns the new state, and the old state's losses and gradient norm.

    If the state is sharded over devices, the parameters are gathered before use, and the gradients
    are sharded again afterwards.
    """
    trained = trained_params(state.params, state.opt_state)
    gathered = jax.lax.with_sharding_constraint(trained, replicated(settings.mesh))
    compute = compute_gradients if settings.accumulate == 1 else accumulate_gradients
    key = None
    if settings.seed is not None:
        key = jax.random.fold_in(jax.random.key(settings.seed), state.step)
    grads, batch_stats, by_name = compute(gathered, state.batch_stats, batch, settings, key)
    updates, opt_state = settings.optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    for name in settings.frozen:  # adding a zero update would turn -0.0 into 0.0
        params = {**params, name: state.params[name]}
        if name in batch_stats:  # the mean of identical values may differ in the last digit
            batch_stats = {**batch_stats, name: state.batch_stats[name]}
    by_name["gradient_norm"] = optax.tree.norm(grads)
    return TrainState(state.step + 1, params, batch_stats, opt_state), by_name


def compile_train_step(settings: StepSettings, place: Any = None) -> Step:
    """Compiles `train_step`; splits the batch over the mesh and reuses the state's memory.

    Args:
      settings: settings of the step.
      place: sharding of each array of the state; None replicates the state on every device.
    """
    model, mesh = settings.model, settings.mesh
    copied = replicated(mesh)
    place = copied if place is None else place
    # On the CPU, XLA would otherwise merge the recomputed activations with the original ones.
    on_cpu: Any = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    remat_on_cpu = model.remat and mesh.devices.flat[0].platform == "cpu"
    return jax.jit(
        partial(train_step, settings=settings),
        donate_argnums=0,
        in_shardings=(place, over_batch(mesh)),
        out_shardings=(place, copied),
        compiler_options=on_cpu if remat_on_cpu else None,
    )
