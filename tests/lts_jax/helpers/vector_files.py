"""Writes and reads small files of word vectors."""

import numpy as np

from lts_jax.pretrained import glove

WORDS = ("man", "left", "blue", "zebra-less", "café")
VECTORS = np.random.default_rng(0).normal(0, 0.4, (4, 50)).round(5).astype(np.float32)
KNOWN = ("man", "left", "blue", "café")


def line(word, values):
    return f"{word} {' '.join(f'{x:.5f}' for x in values)}\n"


TEXT = "".join(line(w, v) for w, v in zip(KNOWN, VECTORS, strict=True))


def read(path, size=50, words=WORDS):
    return glove.read_vectors(path, words, size, progress=False)


def write(tmp_path, text, name="glove.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path
