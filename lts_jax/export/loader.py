"""`segment = load(FOLDER)`, then `segment(image, "man in blue")`; needs jax or onnxruntime."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pixels  # beside this file


def load(folder: str | Path) -> Callable[[np.ndarray, str], np.ndarray]:
    """Returns a function of an RGB image, uint8 [h, w, 3], and a sentence: probabilities [h, w]."""
    folder = Path(folder)
    spec = json.loads((folder / "preprocessing.json").read_text(encoding="utf-8"))
    words = json.loads((folder / "vocabulary.json").read_text(encoding="utf-8"))
    ids = {word: i for i, word in enumerate(words, start=spec["first_word_id"])}
    if (folder / "model.onnx").exists():
        import onnxruntime

        run = onnxruntime.InferenceSession(folder / "model.onnx").run
        call = lambda inputs: run(["mask"], inputs)[0]  # noqa: E731
    else:
        import jax.export

        model = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
        weights, step = dict(np.load(folder / "weights.npz")), jax.jit(model.call)
        call = lambda inputs: np.asarray(step(weights, inputs)["mask"])  # noqa: E731

    def segment(image: np.ndarray, sentence: str) -> np.ndarray:
        found = sentence.lower().translate(str.maketrans(spec["replace"])).split()
        found = [ids.get(w, spec["unknown_id"]) for w in found[: spec["max_words"]]]
        found = found or [spec["unknown_id"]]
        tokens = np.full((1, spec["max_words"]), spec["pad_id"], np.int32)
        tokens[0, : len(found)] = found
        square, box = pixels.fit(image, spec)
        length = np.array([len(found)], np.int32)
        mask = call({"image": square[None], "tokens": tokens, "length": length})[0]
        return pixels.unfit(mask, image.shape, box, spec)

    return segment
