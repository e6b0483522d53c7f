"""Compiles the two programs of a prediction: image encoding, and segmentation by sentences."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from lts_jax.data.examples import Batch
from lts_jax.distributed.mesh import over_batch, put_batch, replicated
from lts_jax.experiment.experiment import Experiment
from lts_jax.models import Network, PreparedImage
from lts_jax.state.train_state import TrainState
from lts_jax.steps.inference import encode, on_each_device, refer

Outputs = tuple[jax.Array, jax.Array | None, jax.Array]
"""Mask probabilities float32 `[B, G, G]` of B sentences; heatmap probabilities of the last round
float32 `[B, G', G']`, None without a locator; and whether all logits are finite, bool `[B]`."""


class Programs(NamedTuple):
    """Programs for fixed numbers of images and sentences.

    Attributes:
      images: number per device.
      sentences: number per device.
      devices: number of devices.
      encode: function from images uint8 `[devices · images, S, S, 3]` to features.
      locate: function of features and a batch of sentences, see `lts_jax.steps.inference.refer`;
        `image` is an index on the same device.
      compiled: the XLA programs by name, for measurements.
    """

    images: int
    sentences: int
    devices: int
    encode: Callable[[np.ndarray], PreparedImage]
    locate: Callable[[PreparedImage, Batch], Outputs]
    compiled: dict[str, Any]


def compile_programs(
    experiment: Experiment, state: TrainState, mesh: Mesh, images: int, sentences: int
) -> Programs:
    """Compiles both programs in parallel, because compilation dominates the first prediction.

    Args:
      experiment: of the network.
      state: contains the parameters, which are copied to the devices of the mesh.
      mesh: devices of this process.
      images: number per device.
      sentences: number per device.
    """
    devices, size = mesh.size, experiment.config.data.image_size
    copied = jax.device_put(state, replicated(mesh))
    encode_step = on_each_device(partial(encode, experiment.model), mesh)
    locate_step = on_each_device(partial(_locate, experiment.model), mesh)

    def split(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=over_batch(mesh))

    image = split((devices * images, size, size, 3), np.uint8)
    features = jax.tree.map(
        lambda x: split(x.shape, x.dtype), jax.eval_shape(encode_step, copied, image)
    )
    sentence = experiment.preprocessing.sentence([]) | {"image": np.int32(0)}
    batch = {k: split((devices * sentences, *v.shape), v.dtype) for k, v in sentence.items()}
    with ThreadPoolExecutor() as threads:
        compiling = {
            "image": threads.submit(lambda: encode_step.lower(copied, image).compile()),
            "text": threads.submit(lambda: locate_step.lower(copied, features, batch).compile()),
        }
    compiled = {name: program.result() for name, program in compiling.items()}

    def run_encode(images: np.ndarray) -> PreparedImage:
        features: PreparedImage = compiled["image"](copied, put_batch({"": images}, mesh)[""])
        return features

    def run_locate(features: PreparedImage, batch: Batch) -> Outputs:
        outputs: Outputs = compiled["text"](copied, features, put_batch(batch, mesh))
        return outputs

    return Programs(images, sentences, devices, run_encode, run_locate, compiled)


def _locate(
    model: Network, state: TrainState, features: PreparedImage, batch: dict[str, jax.Array]
) -> Outputs:
    outputs = refer(model, state, features, batch)
    last = None if outputs.heatmap is None else jax.nn.sigmoid(outputs.heatmap[:, -1])
    return jax.nn.sigmoid(outputs.mask), last, outputs.finite()
