"""A builder of ONNX graphs with the layers of the network."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lts_jax.models.layers import EPSILON, NEGATIVE_SLOPE


class Graph:
    """Nodes and initializers of a graph.

    Args:
      weights: arrays of the network by path, `params/…` and `batch_stats/…`.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        from onnx import helper, numpy_helper

        self._helper, self._numpy = helper, numpy_helper
        self._weights = weights
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def has(self, path: str) -> bool:
        """Whether the network has a parameter."""
        return f"params/{path}" in self._weights

    def array(self, path: str, collection: str = "params") -> np.ndarray:
        """Returns an array of the network, float64."""
        return self._weights[f"{collection}/{path}"].astype(np.float64)

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any
    ) -> str:
        """Adds a node; returns the name of its first output."""
        names = list(outputs) or [f"{kind}_{len(self.nodes)}"]
        self.nodes.append(self._helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def constant(self, value: Any) -> str:
        """Adds an array; returns its name."""
        name = f"array_{len(self.initializers)}"
        self.initializers.append(self._numpy.from_array(np.asarray(value), name))
        return name

    def floats(self, value: np.ndarray) -> str:
        """Adds a float32 array; returns its name."""
        return self.constant(np.ascontiguousarray(value, np.float32))

    def ints(self, *values: int) -> str:
        """Adds an int64 array; returns its name."""
        return self.constant(np.array(values, np.int64))

    def linear(self, x: str, path: str) -> str:
        """Adds a Dense layer on features `[B, C, H, W]`, as a 1×1 convolution."""
        kernel = self.array(f"{path}/kernel")
        return self.affine(x, kernel[None, None], self.array(f"{path}/bias"))

    def conv(
        self,
        x: str,
        path: str,
        stride: int = 1,
        dilation: int = 1,
        zeros: int = 0,
        negative_slope: float = NEGATIVE_SLOPE,
        epsilon: float = EPSILON,
    ) -> str:
        """Adds a ConvNormAct; the last `zeros` channels of `x` are padding without weights."""
        kernel = self.array(f"{path}/conv/kernel")
        kernel = kernel[None, None] if kernel.ndim == 2 else kernel
        kernel = np.pad(kernel, ((0, 0), (0, 0), (0, zeros), (0, 0)))
        scale, shift = self.norm(f"{path}/norm", epsilon)
        x = self.affine(x, kernel * scale, shift, stride, dilation)
        return self.leaky(x, negative_slope)

    def affine(
        self, x: str, kernel: np.ndarray, bias: np.ndarray, stride: int = 1, dilation: int = 1
    ) -> str:
        """Adds a convolution with a kernel `[k, k, in, out]` and a bias."""
        pad = dilation * (kernel.shape[0] // 2)
        return self.node(
            "Conv",
            [x, self.floats(kernel.transpose(3, 2, 0, 1)), self.floats(bias)],
            strides=[stride] * 2,
            dilations=[dilation] * 2,
            pads=[pad] * 4,
        )

    def norm(self, path: str, epsilon: float = EPSILON) -> tuple[np.ndarray, np.ndarray]:
        """Returns the scale and shift per channel of a BatchNorm in evaluation mode."""
        mean, var = (self.array(f"{path}/{k}", "batch_stats") for k in ("mean", "var"))
        scale = self.array(f"{path}/scale") / np.sqrt(var + epsilon)
        return scale, self.array(f"{path}/bias") - mean * scale

    def leaky(self, x: str, negative_slope: float = NEGATIVE_SLOPE) -> str:
        """Adds a LeakyReLU."""
        return self.node("LeakyRelu", [x], alpha=negative_slope)

    def double(self, x: str) -> str:
        """Adds nearest-neighbour upsampling by a factor of 2."""
        return self.node(
            "Resize",
            [x, "", self.constant(np.array([1, 1, 2, 2], np.float32))],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )
