"""BERT files that deviate from Hugging Face's format are read or rejected in one line."""

import pytest

from lts_jax.configs import refcoco
from lts_jax.errors import ConfigError
from lts_jax.pretrained.bert import load_bert, read_word_pieces

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a\u2028", "b"]


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_vocabulary_from_any_editor(start, end, tmp_path):
    text = start + end.join([*PIECES, ""])
    (tmp_path / "vocab.txt").write_bytes(text.encode())
    assert read_word_pieces(str(tmp_path)).words == tuple(PIECES)


@pytest.mark.parametrize(
    ("pieces", "message"),
    [(PIECES[:3], r"\[SEP\] missing"), ([*PIECES, "b"], "contains a piece twice")],
)
def test_vocabulary_of_another_network_is_rejected(pieces, message, tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(pieces))
    with pytest.raises(ConfigError, match=rf"model\.text_weights={tmp_path}: .*{message}"):
        read_word_pieces(str(tmp_path))


def test_deeply_nested_config_is_rejected(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ConfigError, match=r"config\.json is not the config of a BERT"):
        load_bert(str(tmp_path), refcoco.get_config().model, {})


def test_a_config_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "config.json").write_text("\ufeff{}")
    with pytest.raises(ConfigError, match="KeyError"):  # valid JSON, but not a BERT config
        load_bert(str(tmp_path), refcoco.get_config().model, {})
