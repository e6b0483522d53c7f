"""Runs an exported network: `load(FOLDER)(image, "man in blue")`; requires jax or onnxruntime."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pixels  # pixels.py and tokens.py are in the folder of this file
import tokens


def load(folder: str | Path) -> Any:
    """Returns f(RGB image uint8 [h, w, 3], sentence), which returns probabilities [h, w]."""
    folder = Path(folder)
    spec = json.loads((folder / "preprocessing.json").read_bytes())
    read = tokens.reader(folder, spec)
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
        row = read(sentence)
        padded = np.array([row + [spec["pad_id"]] * (spec["max_words"] - len(row))], np.int32)
        inputs = {"image": square[None], "tokens": padded, "length": np.full(1, len(row), np.int32)}
        return np.asarray(pixels.unfit(call(inputs)[0], place, spec))

    return segment
