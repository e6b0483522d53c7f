"""The network as an ONNX graph, built from its arrays by the operators of opset 17.

No converter takes the scan of the GRU, and the network needs few operators: convolutions (each
BatchNorm folded into its own), ONNX's GRU, matrix products, and ways to move numbers. Features are
`[B, C, H, W]` as ONNX has them. Everything is float32.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lts_jax.errors import ConfigError

if TYPE_CHECKING:
    from lts_jax.export.folder import Trained

_OPSET = 17
_EPSILON = 1e-5  # of lts_jax.models.layers.batch_norm
_LEAK = 0.1  # of lts_jax.models.layers.leaky_relu


def make_onnx(trained: "Trained", path: Path) -> None:
    """Writes the graph, with the inputs and outputs of `lts_jax.export.folder.predictor`.

    Raises:
      ConfigError: the locator is a transformer, or the package onnx is missing.
    """
    try:
        import onnx
    except ImportError:
        raise ConfigError("--format=onnx needs a package: pip install onnx") from None
    if trained.model.locate == "transformer":
        raise ConfigError(
            "model.locate=transformer has no ONNX graph here; --format=stablehlo exports it"
        )
    size, words = trained.config.data.image_size, trained.config.data.max_words
    graph = _Graph(trained.weights)
    model = trained.model
    image = graph.node("Cast", ["image"], to=onnx.TensorProto.FLOAT)
    image = graph.node("Div", [image, graph.constant(np.float32(255))])
    features = _backbone(graph, graph.node("Transpose", [image], perm=[0, 3, 1, 2]), model)
    of_words, sentence = _text(graph, words)
    fused = _fusion(graph, features, sentence, model)
    logits = _locate(graph, fused, of_words, sentence, model)
    if logits:
        stacked = graph.node("Concat", logits, axis=1)  # [B, rounds, H/8, W/8]
        graph.node("Sigmoid", [stacked], outputs=["heatmap"])
    if model.segment:
        prior = _prior(graph, logits[-1], model) if logits else None
        mask = _segmenter(graph, fused, prior, model)
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
    outputs = [helper.make_tensor_value_info("mask", types.FLOAT, ["batch", side, side])]
    if logits:
        shape = ["batch", model.rounds, size // 8, size // 8]
        outputs.append(helper.make_tensor_value_info("heatmap", types.FLOAT, shape))
    proto = helper.make_model(
        helper.make_graph(graph.nodes, "lts", inputs, outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        producer_name="lts_jax",
        ir_version=8,
    )
    onnx.checker.check_model(proto, full_check=True)
    path.write_bytes(proto.SerializeToString())


class _Graph:
    """Nodes and arrays so far."""

    def __init__(self, weights: dict[str, np.ndarray]):
        from onnx import helper, numpy_helper

        self._helper, self._numpy = helper, numpy_helper
        self._weights = weights
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []

    def has(self, path: str) -> bool:
        return f"params/{path}" in self._weights

    def array(self, path: str, collection: str = "params") -> np.ndarray:
        return self._weights[f"{collection}/{path}"].astype(np.float64)

    def node(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str] = (), **attributes: Any
    ) -> str:
        """Adds a node and names its first output."""
        names = list(outputs) or [f"{kind}_{len(self.nodes)}"]
        self.nodes.append(self._helper.make_node(kind, list(inputs), names, **attributes))
        return names[0]

    def constant(self, value: Any) -> str:
        """Adds an array."""
        name = f"array_{len(self.initializers)}"
        self.initializers.append(self._numpy.from_array(np.asarray(value), name))
        return name

    def floats(self, value: np.ndarray) -> str:
        return self.constant(np.ascontiguousarray(value, np.float32))

    def ints(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def linear(self, x: str, path: str) -> str:
        """A Dense layer on features, as a 1×1 convolution."""
        kernel = self.array(f"{path}/kernel")
        return self.affine(x, kernel[None, None], self.array(f"{path}/bias"))

    def conv(self, x: str, path: str, stride: int = 1, dilation: int = 1, zeros: int = 0) -> str:
        """ConvNormAct; the last channels of `x` are so many zeros, which it does not know."""
        kernel = self.array(f"{path}/conv/kernel")
        kernel = kernel[None, None] if kernel.ndim == 2 else kernel
        kernel = np.pad(kernel, ((0, 0), (0, 0), (0, zeros), (0, 0)))
        scale, shift = self.norm(f"{path}/norm")
        x = self.affine(x, kernel * scale, shift, stride, dilation)
        return self.leaky(x)

    def affine(
        self, x: str, kernel: np.ndarray, bias: np.ndarray, stride: int = 1, dilation: int = 1
    ) -> str:
        pad = dilation * (kernel.shape[0] // 2)
        return self.node(
            "Conv",
            [x, self.floats(kernel.transpose(3, 2, 0, 1)), self.floats(bias)],
            strides=[stride] * 2,
            dilations=[dilation] * 2,
            pads=[pad] * 4,
        )

    def norm(self, path: str) -> tuple[np.ndarray, np.ndarray]:
        """A BatchNorm as a factor and a summand of each channel."""
        mean, var = (self.array(f"{path}/{k}", "batch_stats") for k in ("mean", "var"))
        scale = self.array(f"{path}/scale") / np.sqrt(var + _EPSILON)
        return scale, self.array(f"{path}/bias") - mean * scale

    def leaky(self, x: str) -> str:
        return self.node("LeakyRelu", [x], alpha=_LEAK)

    def double(self, x: str) -> str:
        """Twice the height and width, by copies."""
        return self.node(
            "Resize",
            [x, "", self.constant(np.array([1, 1, 2, 2], np.float32))],
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )


def _backbone(graph: _Graph, x: str, model: Any) -> list[str]:
    """The taps at strides 8, 16 and 32."""
    x = graph.conv(x, "backbone/stem")
    taps = []
    for i, blocks in enumerate(model.backbone_stages, start=1):
        x = graph.conv(x, f"backbone/stage{i}_down", stride=2)
        for j in range(blocks):
            block = f"backbone/stage{i}_block{j}"
            y = graph.conv(graph.conv(x, f"{block}/ConvNormAct_0"), f"{block}/ConvNormAct_1")
            x = graph.node("Add", [x, y])
        taps.append(x)
    for j in range(3 if model.neck else 0):
        x = graph.conv(graph.conv(x, f"backbone/neck{j}_reduce"), f"backbone/neck{j}_expand")
    return [taps[2], taps[3], x]


def _text(graph: _Graph, words: int) -> tuple[str, str]:
    """h_t `[B, T, D]`, zero at pads, and f_text `[B, D]`."""
    table = graph.floats(graph.array("text/embed/embedding"))
    x = graph.node("Gather", [table, "tokens"], axis=0)
    x = graph.node("Transpose", [x], perm=[1, 0, 2])  # the GRU has time first

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
    states = graph.node("Reshape", [states, graph.ints(0, words, 2 * size)])
    step = graph.constant(np.arange(words, dtype=np.int32))
    length = graph.node("Unsqueeze", ["length", graph.ints(1)])
    valid = graph.node("Unsqueeze", [graph.node("Less", [step, length]), graph.ints(2)])
    states = graph.node("Where", [valid, states, graph.constant(np.float32(0))])
    total = graph.node("ReduceSum", [states, graph.ints(1)], keepdims=0)
    return states, graph.node("Div", [total, graph.node("Cast", [length], to=1)])


def _fusion(graph: _Graph, features: list[str], sentence: str, model: Any) -> str:
    """F_m3."""
    x = graph.conv(features[2], "fusion/image32")
    if model.fuse:
        text = _dense(graph, sentence, "fusion/text")
        text = graph.node("Unsqueeze", [graph.leaky(text), graph.ints(2, 3)])
        x = graph.node("Mul", [x, text])
    for stride, tap in ((16, features[1]), (8, features[0])):
        coarse = graph.double(graph.conv(x, f"fusion/up{stride}"))
        x = graph.node("Concat", [coarse, graph.conv(tap, f"fusion/image{stride}")], axis=1)
    return x


def _locate(graph: _Graph, fused: str, words: str, sentence: str, model: Any) -> list[str]:
    """The logits of each round, `[B, 1, H/8, W/8]`; none without a locator."""
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
        # [B, 1, H W] to the shape of the features, but for one channel.
        shape = graph.node("Shape", [x])
        side = graph.node("Slice", [shape, graph.ints(2), graph.ints(4)])
        target = graph.node("Concat", [graph.ints(0, 1), side], axis=0)
        maps.append(graph.node("Reshape", [response, target]))
    return maps


def _dense(graph: _Graph, x: str, path: str) -> str:
    """A Dense layer on the last axis."""
    x = graph.node("MatMul", [x, graph.floats(graph.array(f"{path}/kernel"))])
    if not graph.has(f"{path}/bias"):
        return x
    return graph.node("Add", [x, graph.floats(graph.array(f"{path}/bias"))])


def _prior(graph: _Graph, logits: str, model: Any) -> str:
    return graph.node("Sigmoid", [logits]) if model.prior == "probability" else logits


def _beside(graph: _Graph, fused: str, prior: str, model: Any) -> tuple[str, int]:
    """F_m3 with the prior, and zeros up to a whole block of channels; also their number.

    The fast convolutions of onnxruntime take blocks of 16 channels alone.
    """
    zeros = -(model.fused_features + 1) % 16
    prior = graph.node("Pad", [prior, graph.ints(0, 0, 0, 0, 0, zeros, 0, 0)])
    return graph.node("Concat", [fused, prior], axis=1), zeros


def _segmenter(graph: _Graph, fused: str, prior: str | None, model: Any) -> str:
    """The logits of P_mask, `[B, 1, H/4, W/4]`."""
    x, zeros = _beside(graph, fused, prior, model) if prior else (fused, 0)
    branches = [graph.conv(x, "segmenter/aspp_1x1", zeros=zeros)]
    for rate in model.segmenter_rates:
        branches.append(graph.conv(x, f"segmenter/aspp_rate{rate}", dilation=rate, zeros=zeros))
    pooled = graph.node("GlobalAveragePool", [x])
    pooled = graph.conv(pooled, "segmenter/aspp_pool", zeros=zeros)
    branches.append(graph.node("Expand", [pooled, graph.node("Shape", [branches[0]])]))
    x = graph.conv(graph.node("Concat", branches, axis=1), "segmenter/project")
    scale, shift = graph.norm("segmenter/upsample_norm")
    kernel = graph.array("segmenter/upsample/kernel") * scale  # [4, 4, in, out]
    # Of the 4×4 kernel each of the four pixels that a cell becomes sees 2×2, as channels here:
    # onnxruntime has no fast transposed convolution. The pixels are interleaved when there is one
    # channel left of each.
    phases = [(a, b) for a in (0, 1) for b in (0, 1)]
    kernel = np.concatenate([kernel[[a + 2, a]][:, [b + 2, b]] for a, b in phases], axis=-1)
    x = graph.leaky(graph.affine(x, kernel, np.tile(shift, 4)))
    mask = np.kron(np.eye(4), graph.array("segmenter/mask/kernel"))
    bias = np.tile(graph.array("segmenter/mask/bias"), 4)
    x = graph.affine(x, mask[None, None], bias)
    x = graph.node("DepthToSpace", [x], blocksize=2)  # with half a cell too much on each side
    starts, ends, axes = graph.ints(1, 1), graph.ints(-1, -1), graph.ints(2, 3)
    return graph.node("Slice", [x, starts, ends, axes])
