"""Words that a file of vectors adds to the vocabulary."""

import zipfile

import numpy as np
import pytest

from lts_jax.config.validation import check_config
from lts_jax.distributed.mesh import make_mesh
from lts_jax.errors import ConfigError
from lts_jax.experiment.experiment import Experiment
from lts_jax.pretrained.vector_words import first_words

LINES = ["the 1 2", ", 1 2", ". . . 3 4", "Red 5 6", "lady 7 8", "guy's 1 1", "guy 9 1", "the 0 0"]


def write(tmp_path, kind):
    if kind == "npz":
        words = [line.rsplit(" ", 2)[0] for line in LINES]
        np.savez(tmp_path / "v.npz", words=np.array(words), vectors=np.zeros((len(words), 2)))
    elif kind == "txt":
        (tmp_path / "v.txt").write_text("\n".join(LINES) + "\n")
    else:
        with zipfile.ZipFile(tmp_path / "v.zip", "w") as archive:
            archive.writestr("glove.2d.txt", "\n".join(LINES))
    return tmp_path / f"v.{kind}"


@pytest.mark.parametrize("kind", ["npz", "txt", "zip"])
def test_words_are_those_that_a_sentence_can_have(tmp_path, kind):
    path = write(tmp_path, kind)
    assert first_words(path, 2, 100) == ["the", "lady", "guy"]
    assert first_words(path, 2, 2) == ["the", "lady"]


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.txt cannot be read"):
        first_words(tmp_path / "none.txt", 2, 1)
    (tmp_path / "v.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ConfigError, match=r"v\.npz: its words cannot be read"):
        first_words(tmp_path / "v.npz", 2, 1)


def test_they_follow_those_of_training(tiny_config_factory, tmp_path):
    config = tiny_config_factory()
    config.data.vector_words = 100
    with pytest.raises(ConfigError, match=r"data\.vector_words=100 needs model\.word_vectors"):
        check_config(config)
    config.model.word_vectors = str(write(tmp_path, "txt"))
    check_config(config)
    words = Experiment(config, make_mesh()).vocabulary.words
    config.data.vector_words = 0
    trained = Experiment(config, make_mesh()).vocabulary.words
    assert words == (*trained, *(word for word in ("the", "lady", "guy") if word not in trained))
