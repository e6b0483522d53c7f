"""The network in evaluation: an image is encoded once, however many sentences refer to it."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Float, UInt8

from lts_jax.distributed.mesh import BATCH
from lts_jax.models import Network, Outputs, PreparedImage
from lts_jax.state.train_state import TrainState, variables_of

Batch = dict[str, jax.Array]
EncodeStep = Callable[[TrainState, jax.Array], PreparedImage]


def to_float(image: UInt8[Array, "k s s 3"]) -> Float[Array, "k s s 3"]:
    """Uint8 pixels to [0, 1]; a mean and deviation, if any, are the backbone's."""
    return image.astype(jnp.float32) / 255


def encode(model: Network, state: TrainState, image: UInt8[Array, "k s s 3"]) -> PreparedImage:
    """Encodes K images, uint8 `[K, S, S, 3]`, for all their sentences."""

    def run(model: Network) -> PreparedImage:
        return model.prepare(model.encode_image(to_float(image), train=False))

    prepared: PreparedImage = nn.apply(run, model)(variables_of(state))
    return prepared


def refer(model: Network, state: TrainState, features: PreparedImage, batch: Batch) -> Outputs:
    """Runs the network after the image encoder.

    Args:
      model: the network.
      state: with its parameters.
      features: of K images.
      batch: B sentences: `tokens` int32 `[B, T]`, `length` int32 `[B]`, and `image` int32 `[B]`,
        which of the K images each refers to.

    Returns:
      The logits of the B sentences.
    """

    def run(model: Network) -> Outputs:
        text = model.encode_text(batch["tokens"], batch["length"])
        of_sentence = jax.tree.map(lambda x: x[batch["image"]], features)
        return model.refer(of_sentence, text, train=False)

    outputs: Outputs = nn.apply(run, model)(variables_of(state))
    return outputs


def on_each_device(step: Callable[..., Any], mesh: Mesh) -> jax.stages.Wrapped:
    """Compiles a step of a state and of arrays whose leading axes are split over the mesh.

    By shard_map: every device runs the very program that a single one would run on its share, so
    that results do not depend on the number of devices, and nothing travels between them.
    """
    copied, split = PartitionSpec(), BATCH

    def on_mesh(state: TrainState, *arrays: Any) -> Any:
        specs = (copied, *[split] * len(arrays))
        return jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)(
            state, *arrays
        )

    return jax.jit(on_mesh)


def compile_encode_step(model: Network, mesh: Mesh) -> EncodeStep:
    """Compiles `encode`: images and their features are split over the mesh."""
    return on_each_device(partial(encode, model), mesh)
