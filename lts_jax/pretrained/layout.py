"""Darknet53 as a list of convolutions, in the order in which YOLOv3 defines and stores them."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict
from numpy.typing import NDArray

NORM = ("bias", "scale", "mean", "var")  # of a BatchNorm, in Darknet's order
LIMIT = 1e9  # an upper bound for weights and statistics: larger numbers mean damage
_unflatten = functools.partial(unflatten_dict, sep="/")


class Conv(NamedTuple):
    """A convolution with BatchNorm.

    Attributes:
      path: of its module in the backbone's parameters, joined by slashes.
      outputs: channels.
      inputs: channels.
      kernel: size of the kernel.
    """

    path: str
    outputs: int
    inputs: int
    kernel: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of the weights as Darknet and PyTorch store them: out, in, height, width."""
        return self.outputs, self.inputs, self.kernel, self.kernel

    @property
    def sizes(self) -> dict[str, int]:
        """Numbers in the arrays of the convolution, in Darknet's order."""
        weights = self.outputs * self.inputs * self.kernel**2
        return {**dict.fromkeys(NORM, self.outputs), "weights": weights}


class Network(NamedTuple):
    """The sizes of a backbone, as in `lts_jax.models.darknet53.Darknet53`."""

    width: int = 32
    stages: Sequence[int] = (1, 2, 8, 8, 4)
    neck: bool = True

    @property
    def convs(self) -> list[Conv]:
        """Its convolutions in order."""
        body = darknet53(self.width, self.stages)
        return body + neck(self.width) if self.neck else body


def darknet53(width: int, stages: Sequence[int]) -> list[Conv]:
    """The convolutions up to the plain stride-32 features: 52 at the published sizes."""
    convs = [Conv("stem", width, 3, 3)]
    for i, blocks in enumerate(stages, start=1):
        c = width * 2**i
        convs.append(Conv(f"stage{i}_down", c, c // 2, 3))
        for j in range(blocks):
            block = f"stage{i}_block{j}"
            convs.append(Conv(f"{block}/ConvNormAct_0", c // 2, c, 1))
            convs.append(Conv(f"{block}/ConvNormAct_1", c, c // 2, 3))
    return convs


def neck(width: int) -> list[Conv]:
    """The six convolutions of YOLOv3 that follow."""
    c = 32 * width
    return [
        conv
        for j in range(3)
        for conv in (
            Conv(f"neck{j}_reduce", c // 2, c, 1),
            Conv(f"neck{j}_expand", c, c // 2, 3),
        )
    ]


def yolo_tail(width: int, outputs: int) -> list[Conv]:
    """The convolutions after the neck in YOLOv3, including the detection heads.

    Args:
      width: of the backbone.
      outputs: channels of each head, 3 · (5 + classes). Heads have a bias and no BatchNorm.
    """
    convs = [Conv("head0", outputs, 32 * width, 1)]
    for i, c in ((1, 16 * width), (2, 8 * width)):
        convs.append(Conv(f"route{i}", c // 2, c, 1))
        inputs = c + c // 2  # concatenated with the backbone's features
        for j in range(3):
            convs.append(Conv(f"tail{i}_{j}_reduce", c // 2, inputs, 1))
            convs.append(Conv(f"tail{i}_{j}_expand", c, c // 2, 3))
            inputs = c
        convs.append(Conv(f"head{i}", outputs, c, 1))
    return convs


def untrained(key: str, values: NDArray[Any], *, constants: bool = False) -> str | None:
    """Says what is wrong with an array that no training leaves, None if nothing is.

    Args:
      key: "bias", "scale", "mean", "var" or "weights".
      values: of it; an array of one number is judged by that.
      constants: accept equal numbers, unless these are zeros.
    """
    if key not in ("scale", "var", "weights"):
        return None
    first = values.flat[0]
    if (values != first).any() or (first and (constants or values.size == 1)):
        return None
    what = "zeros" if first == 0 else f"the number {first}"
    return f"holds only {what}, which no training leaves: the file is damaged, or not trained"


def assemble(arrays: dict[str, dict[str, NDArray[Any]]]) -> dict[str, Any]:
    """Builds the backbone's `params` and `batch_stats`, float32.

    Args:
      arrays: by a convolution's path, its `weights` `[out, in, k, k]`, and `bias`, `scale`,
        `mean` and `var` `[out]`.
    """
    params, batch_stats = {}, {}
    for path, of_conv in arrays.items():
        kernel = of_conv["weights"].transpose(2, 3, 1, 0)
        if kernel.shape[:2] == (1, 1):
            kernel = kernel[0, 0]  # computed as a matrix product, see ConvNormAct
        params[f"{path}/conv/kernel"] = kernel
        for name in ("scale", "bias"):
            params[f"{path}/norm/{name}"] = of_conv[name]
        for name in ("mean", "var"):
            batch_stats[f"{path}/norm/{name}"] = of_conv[name]
    trees = {"params": params, "batch_stats": batch_stats}
    return {
        name: _unflatten({k: np.array(v, np.float32, order="C") for k, v in tree.items()})
        for name, tree in trees.items()
    }
