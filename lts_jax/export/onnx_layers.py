"""Layers of BERT and of the backbones other than Darknet53, as ONNX nodes.

Features are `[B, C, H, W]` for convolutions; all other layers have channels last.
"""

import math
from collections.abc import Sequence

import numpy as np

from lts_jax.export.onnx_graph import Graph


def normalize(graph: Graph, x: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """Subtracts the mean from `[B, 3, H, W]` and divides by the standard deviation."""
    shift, scale = (graph.floats(np.reshape(values, (3, 1, 1))) for values in (mean, std))
    return graph.node("Div", [graph.node("Sub", [x, shift]), scale])


def channels_last(graph: Graph, x: str) -> str:
    """Transposes `[B, C, H, W]` to `[B, H, W, C]`."""
    return graph.node("Transpose", [x], perm=[0, 2, 3, 1])


def channels_first(graph: Graph, x: str) -> str:
    """Transposes `[B, H, W, C]` to `[B, C, H, W]`."""
    return graph.node("Transpose", [x], perm=[0, 3, 1, 2])


def convolve(
    graph: Graph,
    x: str,
    kernel: np.ndarray,
    bias: np.ndarray,
    stride: int = 1,
    dilation: int = 1,
    pads: Sequence[int] | None = None,
    groups: int = 1,
) -> str:
    """Adds a convolution with a kernel `[k, k, in, out]`.

    Args:
      graph: to which nodes are added.
      x: `[B, C, H, W]`.
      kernel: `in` counts the input channels of a group.
      bias: `[out]`.
      stride: of the windows.
      dilation: of the kernel.
      pads: padding before and after each axis; None keeps the size (at stride 1).
      groups: number of channel groups.
    """
    before, after = pads or (dilation * (kernel.shape[0] // 2),) * 2
    return graph.node(
        "Conv",
        [x, graph.floats(kernel.transpose(3, 2, 0, 1)), graph.floats(bias)],
        strides=[stride] * 2,
        dilations=[dilation] * 2,
        pads=[before, before, after, after],
        group=groups,
    )


def conv_norm(
    graph: Graph,
    x: str,
    path: str,
    activation: str = "Relu",
    epsilon: float = 1e-5,
    stride: int = 1,
    dilation: int = 1,
    pads: Sequence[int] | None = None,
) -> str:
    """Adds `lts_jax.models.backbones.common.ConvNorm`; see `activate` for `activation`."""
    kernel = graph.array(f"{path}/conv/kernel")
    kernel = kernel[None, None] if kernel.ndim == 2 else kernel
    scale, shift = graph.norm(f"{path}/norm", epsilon)
    return activate(
        graph, convolve(graph, x, kernel * scale, shift, stride, dilation, pads), activation
    )


def activate(graph: Graph, x: str, activation: str) -> str:
    """Adds an activation: "Relu6", an ONNX operator such as "Relu", or "" for none."""
    if activation == "Relu6":
        zero, six = graph.constant(np.float32(0)), graph.constant(np.float32(6))
        return graph.node("Clip", [x, zero, six])
    return graph.node(activation, [x]) if activation else x


def patches(graph: Graph, x: str, path: str, size: int) -> str:
    """Adds `lts_jax.models.backbones.common.PatchConv`: `[B, C, H, W]` to `[B, H/n, W/n, F]`."""
    kernel = graph.array(f"{path}/conv/kernel")
    kernel = kernel.reshape(size, size, -1, kernel.shape[1])
    bias = graph.array(f"{path}/conv/bias")
    return channels_last(graph, convolve(graph, x, kernel, bias, size, pads=(0, 0)))


def layer_norm(graph: Graph, x: str, path: str, epsilon: float) -> str:
    """Adds a LayerNorm of the last axis."""
    scale, bias = (graph.floats(graph.array(f"{path}/{leaf}")) for leaf in ("scale", "bias"))
    return graph.node("LayerNormalization", [x, scale, bias], axis=-1, epsilon=epsilon)


def dense(graph: Graph, x: str, path: str, outputs: int = 0) -> str:
    """Adds a Dense layer on the last axis.

    Args:
      graph: to which nodes are added.
      x: features.
      path: of the layer.
      outputs: number of output channels, if the kernel has several output axes.
    """
    kernel = graph.array(f"{path}/kernel")
    kernel = kernel.reshape(-1, outputs or kernel.shape[-1])
    x = graph.node("MatMul", [x, graph.floats(kernel)])
    if not graph.has(f"{path}/bias"):
        return x
    return graph.node("Add", [x, graph.floats(graph.array(f"{path}/bias").reshape(-1))])


def gelu(graph: Graph, x: str) -> str:
    """Adds an exact GELU, with the error function."""
    y = graph.node("Erf", [graph.node("Mul", [x, graph.constant(np.float32(math.sqrt(0.5)))])])
    y = graph.node("Add", [y, graph.constant(np.float32(1))])
    half = graph.node("Mul", [x, graph.constant(np.float32(0.5))])
    return graph.node("Mul", [half, y])


def mlp(graph: Graph, x: str, path: str) -> str:
    """Adds a two-layer MLP: `expand`, GELU, `reduce`."""
    return dense(graph, gelu(graph, dense(graph, x, f"{path}/expand")), f"{path}/reduce")


def attention(
    graph: Graph,
    x: str,
    path: str,
    sizes: Sequence[int],
    biases: Sequence[str],
    memory: tuple[str, int] | None = None,
) -> str:
    """Adds multi-head self-attention, or cross-attention to `memory`.

    Args:
      graph: to which nodes are added.
      x: `[B, …, L, C]`.
      path: of `query`, `key`, `value` and `out`.
      sizes: sizes of the axes up to L for Reshape (0 keeps a size).
      biases: added to the scores, `[B, …, heads, L, L or M]`.
      memory: keys and values `[B, …, M, D]`, and M; None for self-attention.
    """
    kernel = graph.array(f"{path}/query/kernel")
    channels, heads, size = kernel.shape
    others, their_sizes = (x, sizes) if memory is None else (memory[0], [*sizes[:-1], memory[1]])
    last = len(sizes)
    # From [..., L, heads, D] to [..., heads, L, D] and back.
    swap = [*range(last - 1), last, last - 1, last + 1]

    def split(name: str, x: str, sizes: Sequence[int]) -> str:
        y = dense(graph, x, f"{path}/{name}", channels)
        return graph.node("Reshape", [y, graph.ints(*sizes, heads, size)])

    query = graph.node("Transpose", [split("query", x, sizes)], perm=swap)
    value = graph.node("Transpose", [split("value", others, their_sizes)], perm=swap)
    turned = [*swap[:-2], last + 1, last - 1]
    key = graph.node("Transpose", [split("key", others, their_sizes)], perm=turned)
    query = graph.node("Mul", [query, graph.constant(np.float32(size**-0.5))])
    scores = graph.node("MatMul", [query, key])
    for bias in biases:
        scores = graph.node("Add", [scores, bias])
    y = graph.node("MatMul", [graph.node("Softmax", [scores], axis=-1), value])
    y = graph.node("Transpose", [y], perm=swap)
    y = graph.node("Reshape", [y, graph.ints(*sizes, channels)])
    return dense(graph, y, f"{path}/out")
