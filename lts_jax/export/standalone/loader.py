"""`segment = load(FOLDER)`, then `segment(image, "man in blue")`; needs jax or onnxruntime."""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pixels  # beside this file


def words_of(sentence: str, spec: dict[str, Any]) -> list[str]:
    """Splits a sentence into the words that the vocabulary counts."""
    table, form = str.maketrans(spec["replace"]), spec["normalize"]
    text = unicodedata.normalize(form, sentence.translate(table)).lower().translate(table)
    return re.sub(spec["apart"], r" \g<0> ", unicodedata.normalize(form, text)).split()


def load(folder: str | Path) -> Any:
    """Returns a function of an RGB image, uint8 [h, w, 3], and a sentence: probabilities [h, w]."""
    folder = Path(folder)
    spec, words = (
        json.loads((folder / f"{x}.json").read_bytes()) for x in ("preprocessing", "vocabulary")
    )
    ids = {word: i for i, word in enumerate(words, start=spec["first_word_id"])}
    if (folder / "model.onnx").exists():
        import onnxruntime

        session = onnxruntime.InferenceSession(folder / "model.onnx")
        call = lambda inputs: session.run(["mask"], inputs)[0]  # noqa: E731
    else:
        import jax.export

        model = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
        weights, step = jax.device_put(dict(np.load(folder / "weights.npz"))), jax.jit(model.call)
        call = lambda inputs: np.asarray(step(weights, inputs)["mask"])  # noqa: E731

    def segment(image: np.ndarray, sentence: str) -> np.ndarray:
        square, place = pixels.fit(np.asarray(image), spec)
        found = words_of(sentence, spec) or [""]
        row = [ids.get(word, spec["unknown_id"]) for word in found[: spec["max_words"]]]
        tokens = np.array([row + [spec["pad_id"]] * (spec["max_words"] - len(row))], np.int32)
        inputs = {"image": square[None], "tokens": tokens, "length": np.full(1, len(row), np.int32)}
        return np.asarray(pixels.unfit(call(inputs)[0], place, spec))

    return segment
