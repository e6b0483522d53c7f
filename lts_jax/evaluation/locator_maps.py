"""What a locator did on the way to its heatmaps, for `lts_jax.io.drawing.draw_maps`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from lts_jax.data import image_ops
from lts_jax.data.examples import Preprocessing
from lts_jax.models import LTS, PreparedImage, refer_with_maps
from lts_jax.state.train_state import TrainState, variables_of
from lts_jax.steps.inference import Batch, encode
from tfds_refcoco.records.split import Split
from tfds_refcoco.records.text import tokenize


def of_sentences(
    model: LTS, state: TrainState, split: Split, preprocessing: Preprocessing, rows: Sequence[int]
) -> list[dict[str, np.ndarray]]:
    """Runs the network once more on some rows of the split's index.

    Returns:
      For each row what `select` returns, at the image's own size.
    """
    records = [split.record(int(split.index.record[row])) for row in rows]
    images = np.stack([preprocessing.image(record)[0] for record in records])

    @jax.jit
    def run(state: TrainState, features: PreparedImage, sentence: Batch) -> dict[str, jax.Array]:
        variables = variables_of(state)
        text: Any = model.apply(
            variables, sentence["tokens"], sentence["length"], method="encode_text"
        )
        return refer_with_maps(model, variables, features, text)[1]

    features, found = jax.jit(partial(encode, model))(state, images), []
    for i, row in enumerate(rows):  # one at a time: attention is large
        words = tokenize(split.index.text[row])
        sentence = preprocessing.sentence(words)
        maps = run(
            state,
            jax.tree.map(lambda x, i=i: x[i : i + 1], features),
            jax.tree.map(lambda x: x[None], sentence),
        )
        selected = select(
            {name: np.asarray(values[0]) for name, values in maps.items()},
            words[: int(sentence["length"])],
        )
        found.append(
            {t: at_original_size(split, preprocessing, row, m) for t, m in selected.items()}
        )
    return found


def select(maps: Mapping[str, np.ndarray], words: Sequence[str]) -> dict[str, np.ndarray]:
    """Picks what is worth drawing of one sentence's maps, by title.

    Args:
      maps: of `lts_jax.models.refer_with_maps`, without the batch's axis.
      words: of the sentence.

    Returns:
      Float `[G, G]` in [0, 1]. Of a word filter the response to each word, 0.5 where there is
      none, over the largest of either sign in its round; of a transformer where the heatmap's
      largest cell looked, by head, over its maximum.
    """
    selected = {}
    for name, values in maps.items():
        of_round, kind = name.split("/")
        if kind == "words":
            largest = max(np.abs(values).max(), 1e-12)
            for i, word in enumerate(words):
                selected[f"{of_round}, word {i + 1}: {word}"] = 0.5 + 0.5 * values[i] / largest
        elif kind == "self_attention":
            heatmap = maps[f"{of_round}/heatmap"]
            for head, weights in enumerate(values):
                looked = weights[int(heatmap.argmax())].reshape(heatmap.shape)
                selected[f"{of_round}, head {head + 1}, from the peak"] = looked / looked.max()
    return selected


def at_original_size(
    split: Split, preprocessing: Preprocessing, row: int, values: np.ndarray
) -> np.ndarray:
    """Maps `[G, G]` over the network's input to `[h, w]` over the row's image."""
    h, w = int(split.index.height[row]), int(split.index.width[row])
    size = preprocessing.image_size
    placement = image_ops.place(h, w, size, preprocessing.resize)
    return image_ops.map_to_image(values, placement, size, h, w)
