"""Darknet53 as a list of convolutions, in the order of YOLOv3's cfg and weights files."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import unflatten_dict
from numpy.typing import NDArray

NORM = ("bias", "scale", "mean", "var")  # arrays of a BatchNorm, in Darknet's order
LIMIT = 1e9  # upper bound for weights and statistics: larger numbers indicate damage
_unflatten = functools.partial(unflatten_dict, sep="/")


class Conv(NamedTuple):
    """A convolution with BatchNorm.

    Attributes:
      path: path of its module in the backbone's parameters, joined by slashes.
      outputs: number of output channels.
      inputs: number of input channels.
      kernel: kernel size.
    """

    path: str
    outputs: int
    inputs: int
    kernel: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the weights in Darknet and PyTorch: out, in, height, width."""
        return self.outputs, self.inputs, self.kernel, self.kernel

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the convolution's arrays, in Darknet's order."""
        weights = self.outputs * self.inputs * self.kernel**2
        return {**dict.fromkeys(NORM, self.outputs), "weights": weights}


class Network(NamedTuple):
    """The sizes of a backbone, as in `lts_jax.models.darknet53.Darknet53`."""

    width: int = 32
    stages: Sequence[int] = (1, 2, 8, 8, 4)
    neck: bool = True

    @property
    def convs(self) -> list[Conv]:
        """The convolutions, in order."""
        body = darknet53(self.width, self.stages)
        return body + neck(self.width) if self.neck else body


def darknet53(width: int, stages: Sequence[int]) -> list[Conv]:
    """Returns the convolutions up to the stride-32 features: 52 at the published sizes."""
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
    """Returns the six convolutions that follow Darknet53 in YOLOv3."""
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
    """Returns the convolutions after the neck in YOLOv3, including the detection heads.

    Args:
      width: width of the backbone.
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
    """Describes why an array cannot be the result of training; returns None if it can.

    Args:
      key: "bias", "scale", "mean", "var" or "weights".
      values: the array; a single number must not be zero.
      constants: whether to accept arrays of equal non-zero numbers.
    """
    if key not in ("scale", "var", "weights"):
        return None
    first = values.flat[0]
    if (values != first).any() or (first and (constants or values.size == 1)):
        return None
    what = "zeros" if first == 0 else f"the number {first}"
    return (
        f"contains only {what}, which training does not produce: the file is damaged or "
        "untrained; download it again"
    )


def assemble(arrays: dict[str, dict[str, NDArray[Any]]]) -> dict[str, Any]:
    """Builds the backbone's `params` and `batch_stats`, float32.

    Args:
      arrays: for each convolution's path, `weights` `[out, in, k, k]`, and `bias`, `scale`,
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
