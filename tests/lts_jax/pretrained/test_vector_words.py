"""Words that a file of vectors adds to the vocabulary."""

import codecs
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
    with pytest.raises(ConfigError, match=r"v\.npz: cannot read words"):
        first_words(tmp_path / "v.npz", 2, 1)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path, zipped):
    data = codecs.BOM_UTF8 + "\n".join(LINES).encode()
    path = tmp_path / "v.txt"
    path.write_bytes(data)
    if zipped:
        path = tmp_path / "v.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("glove.2d.txt", data)
    assert first_words(path, 2, 1) == ["the"]


def test_a_damaged_zip_is_named(tmp_path):
    path = tmp_path / "v.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("glove.2d.txt", "".join(f"word{i} 1 2\n" for i in range(10_000)))
    data = bytearray(path.read_bytes())
    data[2000:2100] = bytes(100)
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=r"v\.zip: glove\.2d\.txt, the archive is damaged before"):
        first_words(path, 2, 100_000)


def test_they_follow_those_of_training(tiny_config_factory, tmp_path):
    config = tiny_config_factory()
    config.data.vector_words = 100
    with pytest.raises(ConfigError, match=r"data\.vector_words=100 requires model\.word_vectors"):
        check_config(config)
    config.model.word_vectors = str(write(tmp_path, "txt"))
    check_config(config)
    words = Experiment(config, make_mesh()).vocabulary.words
    config.data.vector_words = 0
    trained = Experiment(config, make_mesh()).vocabulary.words
    assert words == (*trained, *(word for word in ("the", "lady", "guy") if word not in trained))
