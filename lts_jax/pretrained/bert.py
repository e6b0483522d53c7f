"""Reads a pretrained BERT in Hugging Face's format: weights, config.json and vocabulary."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lts_jax.data.word_pieces import WordPieces
from lts_jax.errors import ConfigError
from lts_jax.pretrained.hub import find_file
from lts_jax.pretrained.named_tensors import Flat, load_network

_FIELD = "model.text_weights"
_SIZES = {
    "bert_hidden": "hidden_size",
    "bert_layers": "num_hidden_layers",
    "bert_heads": "num_attention_heads",
    "bert_intermediate": "intermediate_size",
    "bert_positions": "max_position_embeddings",
}
_FIXED = {
    "model_type": "bert",
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
}


def read_word_pieces(reference: str) -> WordPieces:
    """Reads the vocabulary.

    Raises:
      ConfigError: vocab.txt is missing or not a BERT vocabulary.
    """
    path = find_file(_FIELD, _beside(reference), ("vocab.txt",)).path
    try:
        # `splitlines` would split at characters that are pieces of multilingual vocabularies.
        words = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{_FIELD}={reference}: {path} cannot be read ({error})") from error
    try:
        return WordPieces(words)
    except ValueError as error:
        raise ConfigError(f"{_FIELD}={reference}: {path}: {error}") from error


def load_bert(
    reference: str, model: ConfigDict, shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Flat, dict[str, Any]]:
    """Reads BERT's weights.

    Args:
      reference: a folder, a weights file, or `hf://owner/name[@revision]`.
      model: the config's `model` section.
      shapes: shapes of the encoder's arrays, by path: `params/…`.

    Returns:
      The arrays by path, and their source, for the run's metadata.

    Raises:
      ConfigError: a file is missing, damaged, or of a BERT of another size.
    """
    _check_sizes(reference, model)
    located = find_file(_FIELD, reference)
    arrays, record = load_network(located.path, "bert", (model.bert_layers,), shapes)
    return arrays, describe_file(located.path) | located.record | record


def describe_file(path: Path) -> dict[str, Any]:
    """Returns `file`, its `sha256` and `bytes`."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"file": str(path), "sha256": digest, "bytes": path.stat().st_size}


def _beside(reference: str) -> str:
    """Returns the folder of a weights file."""
    path = Path(reference)
    return str(path.parent) if path.is_file() else reference


def _check_sizes(reference: str, model: ConfigDict) -> None:
    path = find_file(_FIELD, _beside(reference), ("config.json",)).path
    try:
        theirs = json.loads(path.read_text(encoding="utf-8-sig"))
        wrong = {k: theirs[v] for k, v in _SIZES.items() if model[k] != theirs[v]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(
            f"{_FIELD}={reference}: {path} is not the config of a BERT ({error!r})"
        ) from error
    for name, value in _FIXED.items():
        if theirs.get(name, value) != value:
            raise ConfigError(
                f"{_FIELD}={reference}: {path} has {name}={theirs[name]!r}, but only {value!r} is "
                "supported: use another BERT"
            )
    if wrong:
        flags = " ".join(f"--config.model.{name}={value}" for name, value in wrong.items())
        raise ConfigError(f"{_FIELD}={reference} is a BERT of another size: set {flags}")
