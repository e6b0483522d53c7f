"""Rendered example scenes, which are free of the copyright of dataset photos."""

from pathlib import Path

import numpy as np

from tfds_refcoco.shapes.render import encode_jpeg, render
from tfds_refcoco.shapes.sample import sample

_SEEDS = (3, 8, 14, 21)
_LINES = 3


def draw_examples(folder: Path) -> list[list[str]]:
    """Renders `shapes` scenes into a folder; returns the file and sentences of each."""
    examples = []
    for seed in _SEEDS:
        rng = np.random.default_rng(seed)
        scene, referents = sample(rng, "val")
        file = folder / f"scene{seed}.jpg"
        file.write_bytes(encode_jpeg(render(rng, scene)))
        texts = [cleaned for r in referents for cleaned, _, _ in r.sentences]
        examples.append([str(file), "\n".join(dict.fromkeys(texts[:_LINES]))])
    return examples
