"""ONNX graphs of all backbones but Darknet53, from `[B, 3, H, W]` to features `[B, C, H, W]`."""

from functools import partial
from typing import Any

import numpy as np

from lts_jax.errors import ConfigError
from lts_jax.export import onnx_layers as layers
from lts_jax.export.onnx_graph import Graph
from lts_jax.models.backbones import BACKBONES
from lts_jax.models.backbones.efficientnet import EPSILON as EFFICIENTNET_EPSILON
from lts_jax.models.backbones.efficientnet import STAGES as EFFICIENTNET_STAGES
from lts_jax.models.backbones.swin import regions, table_rows


def backbone(graph: Graph, x: str, model: Any, size: int) -> list[str]:
    """Adds the backbone of a network; Darknet53 is in `onnx_network`.

    Args:
      graph: to which nodes are added.
      x: images `[B, 3, size, size]` in [0, 1].
      model: the network.
      size: side of an image, pixels.

    Returns:
      The features at strides 8, 16 and 32.

    Raises:
      ConfigError: there is no ONNX graph for the backbone.
    """
    spec = BACKBONES[model.image_encoder]
    x = layers.normalize(graph, x, spec.mean, spec.std)
    if spec.family == "convnext":
        return _convnext(graph, x, model)
    if spec.family == "swin":
        return _swin(graph, x, model, size, spec.options["window"])
    if spec.family == "resnet":
        return _resnet(graph, x, model, bool(spec.options.get("dilated")))
    if spec.family == "efficientnet":
        return _efficientnet(graph, x, model)
    raise ConfigError(
        f"--format=onnx does not support model.backbone={model.image_encoder}; use "
        "--format=stablehlo"
    )


def _convnext(graph: Graph, x: str, model: Any) -> list[str]:
    norm = partial(layers.layer_norm, graph, epsilon=1e-6)
    x = norm(layers.patches(graph, x, "backbone/stem", 4), "backbone/stem_norm")
    taps = []
    for i, blocks in enumerate(model.backbone_stages):
        stage = f"backbone/stage{i}"
        if i:
            x = layers.channels_first(graph, norm(x, f"{stage}_down_norm"))
            x = layers.patches(graph, x, f"{stage}_down", 2)
        for j in range(blocks):
            block = f"{stage}_block{j}"
            y = _depthwise(graph, layers.channels_first(graph, x), f"{block}/depthwise")
            y = norm(layers.channels_last(graph, y), f"{block}/norm")
            y = layers.mlp(graph, y, block)
            y = graph.node("Mul", [y, graph.floats(graph.array(f"{block}/scale"))])
            x = graph.node("Add", [x, y])
        if i:
            tap = norm(x, f"backbone/tap{4 * 2**i}_norm")
            taps.append(layers.channels_first(graph, tap))
    return taps


def _resnet(graph: Graph, x: str, model: Any, dilated: bool) -> list[str]:
    conv = partial(layers.conv_norm, graph)
    x = conv(x, "backbone/stem", stride=2)
    x = graph.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    taps, dilation = [], 1
    for i, blocks in enumerate(model.backbone_stages):
        keeps = dilated and i > 1
        for j in range(blocks):
            block = f"backbone/stage{i}_block{j}"
            stride = 2 if i and not j and not keeps else 1
            y = conv(x, f"{block}/reduce")
            y = conv(y, f"{block}/spatial", stride=stride, dilation=dilation)
            y = conv(y, f"{block}/expand", activation="")
            if graph.has(f"{block}/shortcut/conv/kernel"):
                x = conv(x, f"{block}/shortcut", activation="", stride=stride)
            x = graph.node("Relu", [graph.node("Add", [x, y])])
            dilation = 2 ** (i - 1) if keeps else 1
        taps.append(x)
    return taps[1:]


def _efficientnet(graph: Graph, x: str, model: Any) -> list[str]:
    conv = partial(layers.conv_norm, graph, activation="Relu6", epsilon=EFFICIENTNET_EPSILON)
    x = conv(x, "backbone/stem", stride=2, pads=(0, 1))
    ends = []
    for i, blocks in enumerate(model.backbone_stages):
        for j in range(blocks):
            block = f"backbone/stage{i}_block{j}"
            stride = 1 if j else EFFICIENTNET_STAGES[i][2]
            y = conv(x, f"{block}/expand") if graph.has(f"{block}/expand/conv/kernel") else x
            scale, shift = graph.norm(f"{block}/depthwise_norm", EFFICIENTNET_EPSILON)
            y = _depthwise(graph, y, f"{block}/depthwise", stride, scale, shift)
            y = layers.activate(graph, y, "Relu6")
            y = conv(y, f"{block}/project", activation="")
            inputs = graph.array(f"{block}/depthwise/kernel").shape[-1]
            outputs = graph.array(f"{block}/project/conv/kernel").shape[-1]
            added = stride == 1 and inputs == outputs * (EFFICIENTNET_STAGES[i][3])
            x = graph.node("Add", [x, y]) if added else y
        ends.append(x)
    return [ends[2], ends[4], ends[6]]


def _depthwise(
    graph: Graph,
    x: str,
    path: str,
    stride: int = 1,
    scale: np.ndarray | float = 1.0,
    shift: np.ndarray | float = 0.0,
) -> str:
    """Adds `lts_jax.models.depthwise.DepthwiseConv`, then a scale and shift per channel."""
    kernel = graph.array(f"{path}/kernel")
    k, channels = kernel.shape[0], kernel.shape[-1]
    bias = graph.array(f"{path}/bias") if graph.has(f"{path}/bias") else np.zeros(channels)
    total = k - stride
    pads = (total // 2, total - total // 2)
    return layers.convolve(
        graph, x, kernel * scale, bias * scale + shift, stride, pads=pads, groups=channels
    )


def _swin(graph: Graph, x: str, model: Any, size: int, window: int) -> list[str]:
    norm = partial(layers.layer_norm, graph, epsilon=1e-5)
    x = norm(layers.patches(graph, x, "backbone/stem", 4), "backbone/stem_norm")
    side, taps = size // 4, []
    for i, blocks in enumerate(model.backbone_stages):
        stage = f"backbone/stage{i}"
        if i:
            x = _merge(graph, x, side, model.backbone_width * 2 ** (i - 1))
            x = norm(x, f"{stage}_down_norm")
            x = layers.dense(graph, x, f"{stage}_down")
            side //= 2
        for j in range(blocks):
            block = f"{stage}_block{j}"
            shift = window // 2 if j % 2 and side > window else 0
            y = norm(x, f"{block}/attention_norm")
            y = _window_attention(graph, y, f"{block}/attention", side, window, shift)
            x = graph.node("Add", [x, y])
            y = layers.mlp(graph, norm(x, f"{block}/mlp_norm"), block)
            x = graph.node("Add", [x, y])
        if i:
            tap = norm(x, f"backbone/tap{4 * 2**i}_norm")
            taps.append(layers.channels_first(graph, tap))
    return taps


def _merge(graph: Graph, x: str, side: int, channels: int) -> str:
    """Concatenates the channels of each 2×2 block: `[B, side, side, C]` to `[…, side/2, 4C]`."""
    half = side // 2
    x = graph.node("Reshape", [x, graph.ints(-1, half, 2, half, 2, channels)])
    x = graph.node("Transpose", [x], perm=[0, 1, 3, 4, 2, 5])
    return graph.node("Reshape", [x, graph.ints(-1, half, half, 4 * channels)])


def _window_attention(graph: Graph, x: str, path: str, side: int, window: int, shift: int) -> str:
    """Adds window attention on `[B, side, side, C]`; see `lts_jax.models.backbones.swin.Block`."""
    channels = graph.array(f"{path}/query/kernel").shape[0]
    windows, cells = -(-side // window), window**2
    padded = windows * window
    if padded > side:
        more = padded - side
        x = graph.node("Pad", [x, graph.ints(0, 0, 0, 0, 0, more, more, 0)])
    x = _roll(graph, x, padded, shift)
    x = graph.node("Reshape", [x, graph.ints(-1, windows, window, windows, window, channels)])
    x = graph.node("Transpose", [x], perm=[0, 1, 3, 2, 4, 5])
    x = graph.node("Reshape", [x, graph.ints(-1, windows**2, cells, channels)])
    table = graph.array(f"{path}/bias_table")[table_rows(window)]  # [cells, cells, heads]
    biases = [graph.floats(table.transpose(2, 0, 1))]
    if shift:
        numbers = regions(windows, windows, window, shift)
        apart = numbers[:, None, :, None] != numbers[:, None, None, :]
        biases.append(graph.floats(np.where(apart, -100.0, 0.0)))
    x = layers.attention(graph, x, path, (0, windows**2, cells), biases)
    x = graph.node("Reshape", [x, graph.ints(-1, windows, windows, window, window, channels)])
    x = graph.node("Transpose", [x], perm=[0, 1, 3, 2, 4, 5])
    x = graph.node("Reshape", [x, graph.ints(-1, padded, padded, channels)])
    x = _roll(graph, x, padded, padded - shift if shift else 0)
    if padded == side:
        return x
    starts, ends, axes = graph.ints(0, 0), graph.ints(side, side), graph.ints(1, 2)
    return graph.node("Slice", [x, starts, ends, axes])


def _roll(graph: Graph, x: str, side: int, shift: int) -> str:
    """Moves the first `shift` rows and columns of `[B, side, side, C]` to the end."""
    for axis in (1, 2) if shift else ():
        ends = ((0, shift), (shift, side))
        first, rest = (
            graph.node("Slice", [x, graph.ints(a), graph.ints(b), graph.ints(axis)])
            for a, b in ends
        )
        x = graph.node("Concat", [rest, first], axis=axis)
    return x
