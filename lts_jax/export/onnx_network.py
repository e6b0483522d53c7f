"""Builds the ONNX graph of a network from its arrays, with the operators of opset 17.

The graph is built by hand because converters do not support the GRU's scan, and the network needs
few operators: convolutions with folded BatchNorm, GRU, matrix products and reshapes. Features are
`[B, C, H, W]`, float32. `model` is a network with an empty `why_no_onnx`.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lts_jax.errors import ConfigError
from lts_jax.experiment.restore import Trained
from lts_jax.export import onnx_layers as layers
from lts_jax.export.onnx_attention import cell_attention, padding_bias
from lts_jax.export.onnx_backbones import backbone
from lts_jax.export.onnx_graph import Graph
from lts_jax.export.onnx_pointrend import pointrend
from lts_jax.models.darknet53 import Conventions
from lts_jax.models.fusion import coordinates

_OPSET = 17


def make_onnx(trained: Trained, path: Path) -> None:
    """Writes the graph; inputs and outputs are those of `lts_jax.export.stablehlo.predictor`.

    Raises:
      ConfigError: the ONNX export does not support a part of the network.
    """
    import onnx

    experiment = trained.experiment
    model: Any = experiment.model
    if model.why_no_onnx:
        raise ConfigError(
            f"--format=onnx does not support {model.why_no_onnx}; use --format=stablehlo"
        )
    size, words = experiment.config.data.image_size, experiment.config.data.max_words
    graph = Graph(trained.arrays)
    image = graph.node("Cast", ["image"], to=onnx.TensorProto.FLOAT)
    image = graph.node("Div", [image, graph.constant(np.float32(255))])
    image = graph.node("Transpose", [image], perm=[0, 3, 1, 2])
    if model.image_encoder == "darknet53":
        features = _darknet53(graph, image, model)
    else:
        features = backbone(graph, image, model, size)
    text = _gru(graph, words) if model.text_encoder == "gru" else _bert(graph, words, model)
    of_words, sentence = _only_real(graph, text, words)
    strides = (8, 8, 8) if model.image_encoder.endswith("dilated") else (8, 16, 32)
    sizes = [size // stride for stride in strides]
    fused = _fusion(graph, features, (of_words, words), sentence, model, sizes)
    logits = _locate(graph, fused, of_words, sentence, model)
    if logits:
        stacked = graph.node("Concat", logits, axis=1)  # [B, rounds, H/8, W/8]
        graph.node("Sigmoid", [stacked], outputs=["heatmap"])
    if model.segment:
        prior = _prior(graph, logits[-1], model) if logits else None
        mask, seen = _segmenter(graph, fused, prior, model)
        if model.refine == "pointrend":
            mask = pointrend(graph, mask, seen, image, model, size)
    elif logits:
        mask = logits[-1]
    else:
        mask = graph.linear(fused, "head")
    graph.node("Sigmoid", [graph.node("Squeeze", [mask, graph.ints(1)])], outputs=["mask"])
    helper, types = onnx.helper, onnx.TensorProto
    inputs = [
        helper.make_tensor_value_info("image", types.UINT8, ["batch", size, size, 3]),
        helper.make_tensor_value_info("tokens", types.INT32, ["batch", words]),
        helper.make_tensor_value_info("length", types.INT32, ["batch"]),
    ]
    side = size // (4 if model.segment else 8)
    side = size if model.refine == "pointrend" else side
    outputs = [helper.make_tensor_value_info("mask", types.FLOAT, ["batch", side, side])]
    if logits:
        shape = ["batch", model.rounds, size // 8, size // 8]
        outputs.append(helper.make_tensor_value_info("heatmap", types.FLOAT, shape))
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "lts_jax", inputs, outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="lts_jax",
        ir_version=8,
    )
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


def _darknet53(graph: Graph, x: str, model: Any) -> list[str]:
    """Returns the features at strides 8, 16 and 32 of `[B, 3, H, W]` in [0, 1]."""
    slope, epsilon, mean, std = model.backbone_conventions
    conv = partial(graph.conv, negative_slope=slope, epsilon=epsilon)
    if (mean, std) != Conventions()[2:]:
        shift, scale = (graph.floats(np.reshape(values, (3, 1, 1))) for values in (mean, std))
        x = graph.node("Div", [graph.node("Sub", [x, shift]), scale])
    x = conv(x, "backbone/stem")
    taps = []
    for i, blocks in enumerate(model.backbone_stages, start=1):
        x = conv(x, f"backbone/stage{i}_down", stride=2)
        for j in range(blocks):
            block = f"backbone/stage{i}_block{j}"
            y = conv(conv(x, f"{block}/ConvNormAct_0"), f"{block}/ConvNormAct_1")
            x = graph.node("Add", [x, y])
        taps.append(x)
    for j in range(3 if model.neck else 0):
        x = conv(conv(x, f"backbone/neck{j}_reduce"), f"backbone/neck{j}_expand")
    return [taps[2], taps[3], x]


def _bert(graph: Graph, words: int, model: Any) -> str:
    """Returns the token states of BERT, `[B, T, D]`."""
    table = graph.floats(graph.array("text/embed/embedding"))
    x = graph.node("Gather", [table, "tokens"], axis=0)
    position = graph.array("text/position/embedding")[:words]
    x = graph.node("Add", [x, graph.floats(position + graph.array("text/segment/embedding")[0])])
    norm = partial(layers.layer_norm, graph, epsilon=1e-12)
    x = norm(x, "text/embed_norm")
    padding = padding_bias(graph, _valid(graph, words))
    for i in range(model.bert_layers):
        layer = f"text/layer{i}"
        y = layers.attention(graph, x, layer, (0, words), [padding])
        x = norm(graph.node("Add", [x, y]), f"{layer}/attention_norm")
        y = layers.mlp(graph, x, layer)
        x = norm(graph.node("Add", [x, y]), f"{layer}/mlp_norm")
    return x


def _valid(graph: Graph, words: int) -> str:
    """Returns the mask of the words that are not padding, `[B, T]`."""
    step = graph.constant(np.arange(words, dtype=np.int32))
    return graph.node("Less", [step, graph.node("Unsqueeze", ["length", graph.ints(1)])])


def _only_real(graph: Graph, states: str, words: int) -> tuple[str, str]:
    """Returns h_t `[B, T, D]`, zero at padding, and f_text `[B, D]`."""
    valid = graph.node("Unsqueeze", [_valid(graph, words), graph.ints(2)])
    states = graph.node("Where", [valid, states, graph.constant(np.float32(0))])
    total = graph.node("ReduceSum", [states, graph.ints(1)], keepdims=0)
    length = graph.node("Unsqueeze", ["length", graph.ints(1)])
    return states, graph.node("Div", [total, graph.node("Cast", [length], to=1)])


def _gru(graph: Graph, words: int) -> str:
    """Returns the states of the GRU, `[B, T, D]`."""
    table = graph.floats(graph.array("text/embed/embedding"))
    x = graph.node("Gather", [table, "tokens"], axis=0)
    x = graph.node("Transpose", [x], perm=[1, 0, 2])  # GRU: time first

    def gates(direction: str, side: str, leaf: str) -> np.ndarray:
        cell = f"text/{direction}/cell"
        parts = [graph.array(f"{cell}/{side}{gate}/{leaf}") for gate in "zrn"]
        return np.concatenate([part.T for part in parts])

    directions = ("forward", "backward")
    size = graph.array("text/forward/cell/hn/bias").shape[0]
    kernels = [np.stack([gates(d, side, "kernel") for d in directions]) for side in "ih"]
    inner = [
        np.concatenate([np.zeros(2 * size), graph.array(f"text/{d}/cell/hn/bias")])
        for d in directions
    ]
    biases = np.stack(
        [np.concatenate([gates(d, "i", "bias"), b]) for d, b in zip(directions, inner, strict=True)]
    )
    states = graph.node(
        "GRU",
        [x, *map(graph.floats, (*kernels, biases)), "length"],
        direction="bidirectional",
        hidden_size=size,
        linear_before_reset=1,
    )  # [T, 2, B, D / 2]
    states = graph.node("Transpose", [states], perm=[2, 0, 1, 3])
    return graph.node("Reshape", [states, graph.ints(0, words, 2 * size)])


def _with_coordinates(graph: Graph, x: str, size: int) -> str:
    """Adds `lts_jax.models.fusion.with_coordinates` for `size` × `size` features."""
    where = np.asarray(coordinates(size, size)).transpose(2, 0, 1)[None]
    batch = graph.node("Slice", [graph.node("Shape", [x]), graph.ints(0), graph.ints(1)])
    shape = graph.node("Concat", [batch, graph.ints(*where.shape[1:])], axis=0)
    return graph.node("Concat", [x, graph.node("Expand", [graph.floats(where), shape])], axis=1)


def _fusion(
    graph: Graph,
    features: list[str],
    words: tuple[str, int],
    sentence: str,
    model: Any,
    sizes: list[int],
) -> str:
    """Returns the fused features F_m3."""
    if model.coordinates:
        features = [
            _with_coordinates(graph, tap, size) for tap, size in zip(features, sizes, strict=True)
        ]
    x = graph.conv(features[2], "fusion/image32")
    if model.fuse:
        text = _dense(graph, sentence, "fusion/text")
        text = graph.node("Unsqueeze", [graph.leaky(text), graph.ints(2, 3)])
        x = graph.node("Mul", [x, text])
    for stride, tap in ((16, features[1]), (8, features[0])):
        coarse = graph.conv(x, f"fusion/up{stride}")
        if stride == 8 and model.attention_layers:
            valid = _valid(graph, words[1])
            coarse = cell_attention(graph, coarse, sizes[1], words, valid, model)
        if not model.image_encoder.endswith("dilated"):  # else all features have one size
            coarse = graph.double(coarse)
        x = graph.node("Concat", [coarse, graph.conv(tap, f"fusion/image{stride}")], axis=1)
    return x


def _locate(graph: Graph, fused: str, words: str, sentence: str, model: Any) -> list[str]:
    """Returns the heatmap logits of each round, `[B, 1, H/8, W/8]`; empty without a locator."""
    maps: list[str] = []
    x = fused
    for i in range(model.rounds if model.locate != "none" else 0):
        if i:
            x, zeros = _beside(graph, fused, _prior(graph, maps[-1], model), model)
            x = graph.conv(x, f"locator/mix{i}", zeros=zeros)
        path = f"locator/round{i}"
        flat = graph.node("Reshape", [x, graph.ints(0, 0, -1)])  # [B, C, H W]
        if model.locate == "filter":
            text = graph.node("Unsqueeze", [sentence, graph.ints(1)])
            response = graph.node("MatMul", [_dense(graph, text, f"{path}/kernel"), flat])
        else:
            kernels = _dense(graph, words, f"{path}/kernel")
            response = graph.node("MatMul", [kernels, flat])  # [B, T, H W]
            regress = graph.floats(graph.array(f"{path}/regress/kernel").T)
            response = graph.node("MatMul", [regress, response])
            bias = graph.floats(graph.array(f"{path}/regress/bias"))
            response = graph.node("Add", [response, bias])
        # [B, 1, H W] to [B, 1, H, W].
        shape = graph.node("Shape", [x])
        side = graph.node("Slice", [shape, graph.ints(2), graph.ints(4)])
        target = graph.node("Concat", [graph.ints(0, 1), side], axis=0)
        maps.append(graph.node("Reshape", [response, target]))
    return maps


def _dense(graph: Graph, x: str, path: str) -> str:
    """Adds a Dense layer on the last axis."""
    x = graph.node("MatMul", [x, graph.floats(graph.array(f"{path}/kernel"))])
    if not graph.has(f"{path}/bias"):
        return x
    return graph.node("Add", [x, graph.floats(graph.array(f"{path}/bias"))])


def _prior(graph: Graph, logits: str, model: Any) -> str:
    return graph.node("Sigmoid", [logits]) if model.prior == "probability" else logits


def _beside(graph: Graph, fused: str, prior: str, model: Any) -> tuple[str, int]:
    """Concatenates F_m3, the prior, and zero channels; also returns the number of zero channels.

    The channels are padded to a multiple of 16, as onnxruntime's fast convolutions require.
    """
    zeros = -(model.fused_features + 1) % 16
    prior = graph.node("Pad", [prior, graph.ints(0, 0, 0, 0, 0, zeros, 0, 0)])
    return graph.node("Concat", [fused, prior], axis=1), zeros


def _segmenter(graph: Graph, fused: str, prior: str | None, model: Any) -> tuple[str, str]:
    """Returns the logits of P_mask, `[B, 1, H/4, W/4]`, and the segmenter's features."""
    x, zeros = _beside(graph, fused, prior, model) if prior else (fused, 0)
    branches = [graph.conv(x, "segmenter/aspp_1x1", zeros=zeros)]
    for rate in model.segmenter_rates:
        branches.append(graph.conv(x, f"segmenter/aspp_rate{rate}", dilation=rate, zeros=zeros))
    pooled = graph.node("GlobalAveragePool", [x])
    pooled = graph.conv(pooled, "segmenter/aspp_pool", zeros=zeros)
    branches.append(graph.node("Expand", [pooled, graph.node("Shape", [branches[0]])]))
    x = graph.conv(graph.node("Concat", branches, axis=1), "segmenter/project")
    features = x
    scale, shift = graph.norm("segmenter/upsample_norm")
    kernel = graph.array("segmenter/upsample/kernel") * scale  # [4, 4, in, out]
    # onnxruntime has no fast transposed convolution. Each of the four output pixels of a cell
    # depends on a 2×2 part of the 4×4 kernel, so the four are computed as channels of an ordinary
    # convolution and interleaved after the last layer.
    phases = [(a, b) for a in (0, 1) for b in (0, 1)]
    kernel = np.concatenate([kernel[[a + 2, a]][:, [b + 2, b]] for a, b in phases], axis=-1)
    x = graph.leaky(graph.affine(x, kernel, np.tile(shift, 4)))
    mask = np.kron(np.eye(4), graph.array("segmenter/mask/kernel"))
    bias = np.tile(graph.array("segmenter/mask/bias"), 4)
    x = graph.affine(x, mask[None, None], bias)
    x = graph.node("DepthToSpace", [x], blocksize=2)  # one pixel too many per side
    starts, ends, axes = graph.ints(1, 1), graph.ints(-1, -1), graph.ints(2, 3)
    return graph.node("Slice", [x, starts, ends, axes]), features
