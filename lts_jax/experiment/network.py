"""Creates the network and the vocabulary of a config."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from ml_collections import ConfigDict

from lts_jax.data.vocabulary import Vocabulary
from lts_jax.data.word_pieces import WordPieces
from lts_jax.distributed.processes import one_after_another
from lts_jax.models import NETWORKS, Network
from lts_jax.models.backbones import BACKBONES
from lts_jax.models.darknet53 import CONVENTIONS
from lts_jax.pretrained.bert import read_word_pieces
from lts_jax.pretrained.vector_words import with_first_words


def make_model(config: ConfigDict, vocab_size: int) -> Network:
    """Creates the network.

    Args:
      config: of a run.
      vocab_size: see `Network`.
    """
    model = config.model
    network = NETWORKS[model.network]
    fields = {name: value for name, value in model.items() if name in network.__dataclass_fields__}
    fields["dtype"] = jnp.dtype(model.dtype)
    fields["text_encoder"] = model.text
    fields["image_encoder"] = model.backbone
    fields["backbone_width"] = model.backbone_width or BACKBONES[model.backbone].width
    fields["backbone_stages"] = model.backbone_stages or BACKBONES[model.backbone].stages
    fields["backbone_conventions"] = CONVENTIONS[model.backbone_conventions]
    return network(vocab_size=vocab_size, remat=config.train.remat, **fields)


def make_vocabulary(
    config: ConfigDict, words: Sequence[str] | None, sentences: Callable[[], Sequence[str]]
) -> Vocabulary | WordPieces:
    """Creates the vocabulary.

    Args:
      config: of a run.
      words: of a checkpoint, in order; None creates a new vocabulary.
      sentences: returns the sentences of the training split; called only if needed.
    """
    kind = WordPieces if config.model.text == "bert" else Vocabulary
    if words is not None:
        return kind(words)
    if weights := config.model.text_weights:
        return one_after_another(lambda: read_word_pieces(weights))
    data, model = config.data, config.model
    known = kind.build(sentences(), data.min_count).words
    return kind(with_first_words(known, model.word_vectors, model.embed_dim, data.vector_words))
