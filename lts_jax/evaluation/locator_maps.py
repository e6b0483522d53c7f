"""Intermediate maps of a locator, for `lts_jax.io.drawing.draw_maps`."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from lts_jax.data import image_ops
from lts_jax.data.examples import Preprocessing
from lts_jax.io.colours import Range
from lts_jax.io.drawing import ValuesInRange
from lts_jax.models import Network, PreparedImage, refer_with_maps
from lts_jax.state.train_state import TrainState, variables_of
from lts_jax.steps.inference import Batch, encode
from tfds_refcoco.records.split import Split
from tfds_refcoco.records.text import tokenize


def of_sentences(
    model: Network,
    state: TrainState,
    split: Split,
    preprocessing: Preprocessing,
    rows: Sequence[int],
) -> list[dict[str, ValuesInRange]]:
    """Runs the network again on some rows of the split's index.

    Returns:
      For each row, the maps by title, at the original image size and in a common range. For a word
      filter, the contribution of each word to the heatmap's logit, minus its mean over the image.
      For a transformer, the attention of the heatmap's maximum, divided by the mean.
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

    features, result = jax.jit(partial(encode, model))(state, images), []
    for i, row in enumerate(rows):  # one at a time: attention is large
        words = tokenize(split.index.text[row])
        sentence = preprocessing.sentence(words)
        maps = run(
            state,
            jax.tree.map(lambda x, i=i: x[i : i + 1], features),
            jax.tree.map(lambda x: x[None], sentence),
        )
        of_row = {name: np.asarray(values[0]) for name, values in maps.items()}
        read = words[: int(sentence["length"])]
        added = {
            title: at_original_size(split, preprocessing, row, values)
            for title, values in by_word(of_row, read, state.params["locator"]).items()
        }
        looked = {
            title: at_original_size(split, preprocessing, row, values)
            for title, values in attention(of_row).items()
        }
        result.append(in_one_range(added, looked))
    return result


def by_word(
    maps: Mapping[str, np.ndarray], words: Sequence[str], locator: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Returns the contribution of each word of a word filter to the heatmap's logit.

    Args:
      maps: of one sentence, from `lts_jax.models.refer_with_maps`, without the batch axis.
      words: of the sentence.
      locator: parameters of the locator; its regression weights the responses.

    Returns:
      Float `[G, G]` by title. In each round, the maps and the regression's bias sum to the logit.
    """
    result = {}
    for name, responses in maps.items():
        of_round, kind = name.split("/")
        if kind == "words":  # rounds of parameters are counted from 0
            parameters = locator[f"round{int(of_round.removeprefix('round')) - 1}"]
            weights = np.asarray(parameters["regress"]["kernel"])[:, 0]
            for i, word in enumerate(words):
                result[f"{of_round}, word {i + 1}: {word}"] = weights[i] * responses[i]
    return result


def attention(maps: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns the attention of the heatmap's maximum, by head and round of a transformer.

    Args:
      maps: as for `by_word`.

    Returns:
      Float `[G, G]` by title, divided by the mean attention.
    """
    result = {}
    for name, values in maps.items():
        of_round, kind = name.split("/")
        if kind == "self_attention":
            heatmap = maps[f"{of_round}/heatmap"]
            for head, weights in enumerate(values):
                looked = weights[int(heatmap.argmax())].reshape(heatmap.shape)
                result[f"{of_round}, head {head + 1}, from the peak"] = looked * looked.size
    return result


def in_one_range(
    added: Mapping[str, np.ndarray], looked: Mapping[str, np.ndarray]
) -> dict[str, ValuesInRange]:
    """Assigns a common range to all maps of a sentence, so that their colours are comparable.

    Args:
      added: contributions of words; their means over the image are subtracted.
      looked: attention maps; values below the mean have no colour.
    """
    added = {title: values - values.mean() for title, values in added.items()}
    most = max((float(np.abs(values).max()) for values in added.values()), default=0.0)
    of_words = Range("added to the logit", -most, most, signed=True)
    most = max((float(values.max()) for values in looked.values()), default=0.0)
    of_heads = Range("times the mean attention", 1.0, max(most, 1.01))
    return {title: (values, of_words) for title, values in added.items()} | {
        title: (values, of_heads) for title, values in looked.items()
    }


def at_original_size(
    split: Split, preprocessing: Preprocessing, row: int, values: np.ndarray
) -> np.ndarray:
    """Resamples a map `[G, G]` of the network's input to the row's image, `[h, w]`."""
    h, w = int(split.index.height[row]), int(split.index.width[row])
    size = preprocessing.image_size
    placement = image_ops.place(h, w, size, preprocessing.resize)
    return image_ops.map_to_image(values, placement, size, h, w)
