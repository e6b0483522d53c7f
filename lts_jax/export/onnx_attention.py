"""`lts_jax.models.attention` as ONNX nodes."""

from typing import Any

import numpy as np

from lts_jax.export import onnx_layers as layers
from lts_jax.export.onnx_graph import Graph
from lts_jax.models.attention import EPSILON
from lts_jax.models.transformer import sine_position_encoding


def padding_bias(graph: Graph, valid: str) -> str:
    """Returns the attention bias that masks padding, `[B, 1, 1, T]`.

    Args:
      graph: to which nodes are added.
      valid: mask of the words that are not padding, `[B, T]`.
    """
    return graph.node(
        "Where",
        [
            graph.node("Unsqueeze", [valid, graph.ints(1, 2)]),
            graph.constant(np.float32(0)),
            graph.constant(np.finfo(np.float32).min),
        ],
    )


def cell_attention(
    graph: Graph, x: str, side: int, words: tuple[str, int], valid: str, model: Any
) -> str:
    """Adds `lts_jax.models.attention.CellAttention`.

    Args:
      graph: to which nodes are added.
      x: the cells, `[B, C, H, W]`.
      side: H and W.
      words: h_t, `[B, T, D]`, and T.
      valid: mask of the words that are not padding, `[B, T]`.
      model: the network.

    Returns:
      Features `[B, C, H, W]`.
    """
    channels, cells = model.fused_features // 2, side * side
    position = graph.floats(sine_position_encoding(side, side, channels)[None])
    x = graph.node("Reshape", [layers.channels_last(graph, x), graph.ints(0, cells, channels)])

    def seen(norm: str) -> str:
        return graph.node("Add", [layers.layer_norm(graph, x, norm, EPSILON), position])

    for i in range(model.attention_layers):
        path = f"attention/layer{i}"
        y = layers.attention(graph, seen(f"{path}/cell_norm"), f"{path}/cells", (0, cells), [])
        x = graph.node("Add", [x, y])
        if model.attention_words:
            y = layers.attention(
                *(graph, seen(f"{path}/word_norm"), f"{path}/words", (0, cells)),
                [padding_bias(graph, valid)],
                words,
            )
            x = graph.node("Add", [x, y])
        y = layers.layer_norm(graph, x, f"{path}/mlp_norm", EPSILON)
        y = graph.node("Relu", [layers.dense(graph, y, f"{path}/expand")])
        x = graph.node("Add", [x, layers.dense(graph, y, f"{path}/reduce")])
    x = graph.node("Reshape", [x, graph.ints(0, side, side, channels)])
    return layers.channels_first(graph, x)
