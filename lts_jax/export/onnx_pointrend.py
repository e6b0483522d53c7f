"""`lts_jax.models.pointrend` as ONNX nodes; features are `[B, C, H, W]`."""

from typing import Any

import numpy as np

from lts_jax.export.onnx_graph import Graph
from lts_jax.models.pointrend import LAYERS


def pointrend(graph: Graph, mask: str, features: str, image: str, model: Any, size: int) -> str:
    """Returns the logits of the refined mask, `[B, 1, S, S]`.

    Args:
      graph: to which nodes are added.
      mask: the segmenter's logits, `[B, 1, S/4, S/4]`.
      features: of the segmenter.
      image: `[B, 3, S, S]` in [0, 1].
      model: the network.
      size: S, pixels.
    """
    detail = graph.conv(image, "pointrend/detail", stride=2)
    finer = mask
    for side in (size // 2, size):
        doubled = graph.constant(np.array([1, 1, 2, 2], np.float32))
        finer = graph.node(
            "Resize",
            [finer, "", doubled],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        flat = graph.node("Reshape", [finer, graph.ints(0, -1)])
        certain = graph.node("Neg", [graph.node("Abs", [flat])])
        number = graph.ints(min(model.refine_points, side * side))
        chosen = f"chosen_{side}"
        graph.node("TopK", [certain, number], outputs=[f"certainty_{side}", chosen])
        logits = _head(graph, mask, features, detail, _grid(graph, chosen, side))
        flat = graph.node("ScatterElements", [flat, chosen, logits], axis=1)
        finer = graph.node("Reshape", [flat, graph.ints(0, 1, side, side)])
    return finer


def _grid(graph: Graph, index: str, side: int) -> str:
    """Returns the centres of cells by index, in [-1, 1], `[B, N, 1, 2]`."""
    places = []
    for kind in ("Mod", "Div"):
        cell = graph.node("Cast", [graph.node(kind, [index, graph.ints(side)])], to=1)
        place = graph.node("Mul", [cell, graph.constant(np.float32(2 / side))])
        place = graph.node("Add", [place, graph.constant(np.float32(1 / side - 1))])
        places.append(graph.node("Unsqueeze", [place, graph.ints(2, 3)]))
    return graph.node("Concat", places, axis=3)


def _head(graph: Graph, mask: str, features: str, detail: str, grid: str) -> str:
    """Returns the logits at the points of a grid, `[B, N]`."""
    seen = [
        graph.node("GridSample", [x, grid], mode="bilinear", padding_mode="border", align_corners=0)
        for x in (features, detail, mask)
    ]
    coarse = seen[-1]
    x = graph.node("Concat", seen, axis=1)
    for i in range(LAYERS):
        x = graph.node("Relu", [graph.linear(x, f"pointrend/hidden_{i}")])
        x = graph.node("Concat", [x, coarse], axis=1)
    return graph.node("Reshape", [graph.linear(x, "pointrend/predict"), graph.ints(0, -1)])
