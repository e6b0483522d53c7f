"""CMPC's blocks in NumPy, for one sentence without padding, in float64.

Written from the formulas with explicit loops over cells, words and heads. Parameters are trees of
Flax parameters.
"""

import numpy as np


def double(tree):
    return {
        k: double(v) if isinstance(v, dict) else np.asarray(v, np.float64) for k, v in tree.items()
    }


def unit(x):
    return x / np.linalg.norm(x)


def linear(x, params):
    return x @ params["kernel"] + params["bias"]


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def map_norm(x, params):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-12) * params["scale"] + params["bias"]


def coordinates(h, w):
    """Returns edges, centre and relative size of each cell, as the authors define them."""
    actual = np.zeros((h, w, 8))
    for i in range(h):
        for j in range(w):
            x0, x1 = 2 * j / w - 1, 2 * (j + 1) / w - 1
            y0, y1 = 2 * i / h - 1, 2 * (i + 1) / h - 1
            actual[i, j] = x0, y0, x1, y1, (x0 + x1) / 2, (y0 + y1) / 2, 1 / w, 1 / h
    return actual


def word_types(words, params):
    return np.array(
        [softmax(linear(relu(linear(x, params["hidden_map"])), params["types"])) for x in words]
    )


def pooled(words, types, kinds):
    return unit(sum(types[t, :kinds].sum() * words[t] for t in range(len(words))))


def perceive(tap, entities, params):
    """Returns M of one level, `[H, W, C]`."""
    h, w, _ = tap.shape
    where = coordinates(h, w)
    image, text = params["image"], params["text"]
    nodes = np.zeros((h, w, image["bias"].shape[1]))
    for i in range(h):
        for j in range(w):
            seen = np.concatenate([unit(linear(tap[i, j], params["lateral"])), where[i, j]])
            for r in range(len(image["bias"])):
                of_image = np.tanh(seen @ image["kernel"][:, r] + image["bias"][r])
                of_text = np.tanh(entities @ text["kernel"][:, r] + text["bias"][r])
                nodes[i, j] += of_image * of_text
            nodes[i, j] = unit(np.tanh(nodes[i, j]))
    return nodes


def reason(nodes, words, types, params):
    """Applies the graph convolution to nodes `[N, C]`, with an explicit adjacency matrix."""
    n, c = nodes.shape
    affinity = np.zeros((n, len(words)))
    for i in range(n):
        for t in range(len(words)):
            cell, word = linear(nodes[i], params["cells"]), linear(words[t], params["words"])
            affinity[i, t] = types[t, 2] * (cell @ word) / np.sqrt(c)
    over_words = np.array([softmax(row) for row in affinity])
    over_cells = np.array([softmax(column) for column in affinity.T]).T
    adjacency = over_words @ over_cells.T
    np.testing.assert_allclose(adjacency.sum(1), 1)
    message = map_norm(adjacency @ nodes, params["message_norm"])
    x = map_norm(linear(relu(nodes + message), params["update"]), params["update_norm"])
    return np.array([unit(row) for row in relu(x)])


def level(tap, words, types, params):
    """Returns X of one level, `[H, W, Q]`."""
    h, w, _ = tap.shape
    entities = pooled(words, types, 2)
    nodes = perceive(tap, entities, params)
    graph = reason(nodes.reshape(h * w, -1), words, types, params["reasoning"]).reshape(h, w, -1)
    tiled = np.broadcast_to(entities, (h, w, len(entities)))
    return relu(
        linear(np.concatenate([nodes, graph, tiled, coordinates(h, w)], axis=-1), params["fuse"])
    )


def exchange(levels, sentence, params):
    """Applies one round of exchange to three maps `[H, W, C]`."""
    h, w, c = levels[0].shape
    result = []
    for i, x in enumerate(levels):
        query = linear(sentence, params[f"query{i}"])
        scores = np.array([linear(cell, params[f"key{i}"]) @ query for cell in x.reshape(-1, c)])
        mean = softmax(scores / np.sqrt(c)) @ x.reshape(-1, c)
        context = unit(linear(np.concatenate([mean, sentence]), params[f"context{i}"]))
        total = x.copy()
        for j, other in enumerate(levels):
            if j != i:
                gate = sigmoid(linear(context, params[f"gate{i}_of{j}"]))
                total += gate * relu(linear(other, params[f"take{i}_of{j}"]))
        result.append(np.array([unit(cell) for cell in total.reshape(-1, c)]).reshape(h, w, c))
    return result


def conv_lstm(maps, params):
    """Returns the last hidden state, `[H, W, F]`."""
    f = params["peephole_input"].shape[-1]
    cell = hidden = np.zeros((*maps[0].shape[:2], f))
    for x in maps:
        gates = np.concatenate([x, hidden], axis=-1) @ params["gates"]["kernel"]
        candidate, enter, forget, leave = (gates[..., k * f : (k + 1) * f] for k in range(4))
        enter = map_norm(enter + params["peephole_input"] * cell, params["input_norm"])
        forget = map_norm(forget + params["peephole_forget"] * cell, params["forget_norm"])
        candidate = np.tanh(map_norm(candidate, params["candidate_norm"]))
        cell = cell * sigmoid(forget + 1) + sigmoid(enter) * candidate
        leave = map_norm(leave + params["peephole_output"] * cell, params["output_norm"])
        cell = map_norm(cell, params["cell_norm"])
        hidden = sigmoid(leave) * np.tanh(cell)
    return hidden


def conv3x3(x, params):
    """Returns one output channel, `[H, W]`."""
    h, w, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    kernel = params["kernel"][..., 0]
    return np.array(
        [
            [(padded[i : i + 3, j : j + 3] * kernel).sum() + params["bias"][0] for j in range(w)]
            for i in range(h)
        ]
    )
