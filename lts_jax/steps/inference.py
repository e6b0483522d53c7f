"""The network in evaluation. Each image is encoded once for all its sentences."""

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
    """Scales uint8 pixels to [0, 1]; the backbone applies its own mean and standard deviation."""
    return image.astype(jnp.float32) / 255


def encode(model: Network, state: TrainState, image: UInt8[Array, "k s s 3"]) -> PreparedImage:
    """Encodes K images, uint8 `[K, S, S, 3]`, once for all their sentences."""

    def run(model: Network) -> PreparedImage:
        return model.prepare(model.encode_image(to_float(image), train=False))

    prepared: PreparedImage = nn.apply(run, model)(variables_of(state))
    return prepared


def refer(model: Network, state: TrainState, features: PreparedImage, batch: Batch) -> Outputs:
    """Runs the network after the image encoder.

    Args:
      model: the network.
      state: the training state with the parameters.
      features: the encoded K images.
      batch: B sentences: `tokens` int32 `[B, T]`, `length` int32 `[B]`, and `image` int32 `[B]`,
        the index of each sentence's image among the K.

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
    """Compiles a step whose array arguments are split over the mesh along their leading axes.

    With shard_map, each device runs the same program as a single device would on its shard. The
    results therefore do not depend on the number of devices, and no communication is needed.
    """
    copied, split = PartitionSpec(), BATCH

    def on_mesh(state: TrainState, *arrays: Any) -> Any:
        specs = (copied, *[split] * len(arrays))
        return jax.shard_map(step, mesh=mesh, in_specs=specs, out_specs=split, check_vma=False)(
            state, *arrays
        )

    return jax.jit(on_mesh)


def compile_encode_step(model: Network, mesh: Mesh) -> EncodeStep:
    """Compiles `encode`, with images and features split over the mesh."""
    return on_each_device(partial(encode, model), mesh)
