"""The initial weights of a run: random, from pretrained files, or from another run."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.experimental.multihost_utils import process_allgather
from ml_collections import ConfigDict

from lts_jax.configs.fields import flatten
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.data.word_pieces import WordPieces
from lts_jax.errors import ConfigError
from lts_jax.io.console import format_table
from lts_jax.models.backbones import BACKBONES
from lts_jax.models.darknet53 import CONVENTIONS
from lts_jax.pretrained import word_vectors
from lts_jax.pretrained.backbone import inherited_warning, load_backbone
from lts_jax.pretrained.bert import describe_file, load_bert
from lts_jax.pretrained.hub import find_file
from lts_jax.pretrained.layout import Network
from lts_jax.pretrained.named_tensors import load_network
from lts_jax.state.checkpoint_reader import CheckpointReader
from lts_jax.state.fallback import read_chosen
from lts_jax.state.train_state import TrainState
from lts_jax.steps.averaging import replace_trained

logger = logging.getLogger(__name__)

Flat = dict[str, Any]  # arrays by path, joined by slashes
_EMBEDDING = "params/text/embed/embedding"
_RESERVED = 2  # rows of the table: padding and the unknown word


class Transfer(NamedTuple):
    """Result of loading another network's arrays.

    Attributes:
      variables: arrays of this network, by path.
      loaded: paths that were loaded; for word embeddings, only the rows of shared words.
      skipped: paths that this network lacks or that have another shape.
      new: paths of this network that were not loaded.
      new_words: number of words that the other vocabulary lacks.
    """

    variables: Flat
    loaded: list[str]
    skipped: list[str]
    new: list[str]
    new_words: int


def fill(
    state: TrainState,
    config: ConfigDict,
    vocabulary: Vocabulary | WordPieces,
    sentences: Sequence[str],
) -> tuple[TrainState, dict[str, Any]]:
    """Replaces random weights with those that the config names, and logs a summary.

    Files (`model.backbone_weights`, `model.text_weights` and `model.word_vectors`) are loaded
    first, then the run of `train.start_from`, which takes precedence.

    Args:
      state: the newly initialized state.
      config: the run's config.
      vocabulary: the run's vocabulary.
      sentences: the training sentences, to compute the coverage of the word vectors.

    Returns:
      The state with the same shardings, and the source of the weights by field, for the run's
      metadata.

    Raises:
      ConfigError: a file or run is missing, damaged or incompatible.
    """
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    flat: dict[str, Any] = dict(flatten_dict(variables, sep="/"))
    random = set(flat)
    sources: dict[str, Any] = {}
    if config.model.backbone_weights:
        arrays, source = _read_backbone(config.model, shapes_of(flat, "backbone"))
        flat |= {name.replace("/", "/backbone/", 1): value for name, value in arrays.items()}
        random -= {name for name in flat if "/backbone/" in name}
        sources["backbone_weights"] = source
        classes = source.get("classes")
        detector = f", the detector of {classes} classes" if classes else ""
        logger.info("backbone: %s file %s%s", source["format"], source["file"], detector)
        if len(names := source.get("conventions", ())) > 1:
            logger.warning(
                "%s does not record which of the conventions %s it was trained with: using %s "
                "(model.backbone_conventions)",
                source["file"],
                " or ".join(names),
                config.model.backbone_conventions,
            )
        if "warning" in source:
            logger.warning(source["warning"])
    if config.model.text_weights:
        reference = config.model.text_weights
        arrays, source = load_bert(reference, config.model, shapes_of(flat, "text"))
        flat |= {name.replace("/", "/text/", 1): value for name, value in arrays.items()}
        random -= {name for name in flat if "/text/" in name}
        sources["text_weights"] = source
        logger.info("text: %s file %s", source["format"], source["file"])
    if config.model.word_vectors:
        assert isinstance(vocabulary, Vocabulary)  # see `check_config`
        path = Path(config.model.word_vectors)
        vectors = word_vectors.cached_vectors(
            path, vocabulary.words, config.model.embed_dim, word_vectors.default_cache()
        )
        flat[_EMBEDDING] = word_vectors.embedding_table(vectors, config.seed)
        random.discard(_EMBEDDING)
        counts = word_vectors.coverage(vectors, vocabulary, sentences)
        sources["word_vectors"] = word_vectors.describe_vectors(path, vectors) | counts
        logger.info("word vectors: %s: %s", path, word_vectors.describe_coverage(counts))
        if odd := word_vectors.describe_odd_lines(vectors):
            logger.info(odd)
    if config.train.start_from:
        workdir = Path(config.train.start_from)
        step, saved, theirs = _read_run(workdir)
        field = f"train.start_from={workdir}"
        first = vocabulary.first_id
        transfer = take_over(flat, theirs, vocabulary.words, saved["vocabulary"], first)
        if not transfer.loaded:
            raise ConfigError(
                f"{field}: none of its arrays matches this network: start from a run with the same "
                "model fields, or leave train.start_from empty"
            )
        if any("/backbone/" in path for path in transfer.loaded):
            theirs_need = flatten(saved["config"])["model.backbone_conventions"]
            _check_conventions(field, [theirs_need], config.model)
        flat = dict(transfer.variables)
        sources["start_from"] = {
            "workdir": str(workdir),
            "step": step,
            "weights": saved["weights"],
            "loaded": len(transfer.loaded),
            "skipped": transfer.skipped,
            "new": transfer.new,
            "new_words": transfer.new_words,
        }
        logger.info("starting from %s, step %d:", workdir, step)
        logger.info(describe_transfer(transfer, random, len(vocabulary.words)))
        if warning := inherited_warning(saved["weights"]):
            logger.warning(warning)
    if not sources:
        return state, {}
    _check_shapes(flat, variables)
    filled = unflatten_dict(flat, sep="/")
    # Keep the shardings and the order of the tree.
    sharded = jax.tree.map(lambda old, new: jax.device_put(new, old.sharding), variables, filled)
    opt_state = replace_trained(state.opt_state, sharded["params"])
    return state.replace(**sharded, opt_state=opt_state), sources


def shapes_of(flat: Flat, part: str) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of a part's arrays, by path without the part: `params/…`."""
    parts = {name: name.split("/", 2) for name in flat}
    return {f"{p[0]}/{p[2]}": flat[name].shape for name, p in parts.items() if p[1] == part}


def _read_backbone(
    model: ConfigDict, shapes: dict[str, tuple[int, ...]]
) -> tuple[Flat, dict[str, Any]]:
    """Reads `model.backbone_weights`; returns the arrays by path and their source."""
    field, published = "model.backbone_weights", BACKBONES[model.backbone]
    reference = model.backbone_weights
    path, record = find_file(field, reference)
    stages = tuple(model.backbone_stages) or published.stages
    if published.family != "darknet53":
        arrays, source = load_network(path, published.family, stages, shapes)
        used = {"mean": published.mean, "std": published.std, "epsilon": published.epsilon}
        return arrays, describe_file(path) | record | source | {"used_conventions": used}
    backbone = load_backbone(
        path, Network(model.backbone_width or published.width, stages, model.neck)
    )
    _check_conventions(f"{field}={reference}", backbone.source["conventions"], model)
    conventions = CONVENTIONS[model.backbone_conventions]._asdict()
    flat = dict(flatten_dict(backbone.variables, sep="/"))
    return flat, backbone.source | record | {"used_conventions": conventions}


def _read_run(workdir: Path) -> tuple[int, dict[str, Any], Flat]:
    """Reads the best readable checkpoint of another run.

    Returns:
      Its step, its description (see `CheckpointReader.read_run`), and its arrays.

    Raises:
      ConfigError: the run has no readable checkpoint.
    """

    def read(step: int) -> tuple[dict[str, Any], Flat]:
        variables = flatten_dict(checkpoints.read_variables(step), sep="/")
        return checkpoints.read_run(step), dict(variables)

    try:
        with CheckpointReader(workdir) as checkpoints:
            step, (saved, theirs) = read_chosen(checkpoints, None, read)
    except ConfigError as error:
        raise ConfigError(f"train.start_from={workdir}: {error}") from error
    return step, saved, theirs


def take_over(
    ours: Flat,
    theirs: Flat,
    words: Sequence[str],
    their_words: Sequence[str],
    first: int = _RESERVED,
) -> Transfer:
    """Loads each array of the other network that has the same path and shape.

    Word embeddings are loaded word by word; `first` is the row of the first word.
    """
    result, loaded, new = dict(ours), [], []
    new_words = 0
    for path, value in ours.items():
        other = theirs.get(path)
        if path == _EMBEDDING and other is not None and other.shape[1] == value.shape[1]:
            row_of = {word: i for i, word in enumerate(their_words, start=first)}
            # An array that is split over processes must be gathered first.
            local = isinstance(value, np.ndarray) or value.is_fully_addressable
            table = np.array(value if local else process_allgather(value, tiled=True))
            table[:first] = other[:first]
            for i, word in enumerate(words, start=first):
                if word in row_of:
                    table[i] = other[row_of[word]]
                else:
                    new_words += 1
            result[path] = table
            loaded.append(path)
        elif other is not None and other.shape == value.shape:
            result[path] = other
            loaded.append(path)
        else:
            new.append(path)
    skipped = [path for path in theirs if path not in loaded]
    return Transfer(result, loaded, skipped, new, new_words)


def describe_transfer(transfer: Transfer, random: set[str], words: int) -> str:
    """Formats the numbers of loaded, skipped and new arrays per part, and lists the last two."""
    parts: dict[str, list[int]] = {}
    for column, paths in enumerate((transfer.loaded, transfer.skipped, transfer.new)):
        for path in paths:
            parts.setdefault(path.split("/")[1], [0, 0, 0])[column] += 1
    rows = [[part, *map(str, counts)] for part, counts in parts.items()]
    lines = [format_table(("arrays", "loaded", "skipped", "new"), rows)]
    if transfer.new_words:
        lines.append(f"words: {words - transfer.new_words} loaded, {transfer.new_words} new")
    lines += [f"  skipped {path}" for path in transfer.skipped]
    lines += [
        f"  new {path}, {'random' if path in random else 'from the file'}" for path in transfer.new
    ]
    return "\n".join(lines)


def _check_conventions(field: str, names: Sequence[str], model: ConfigDict) -> None:
    """Raises ConfigError unless backbone weights match the conventions of the config."""
    if model.backbone_conventions not in names:
        flags = " or ".join(f"--config.model.backbone_conventions={name}" for name in names)
        raise ConfigError(
            f"{field}: its Darknet53 does not use model.backbone_conventions="
            f"{model.backbone_conventions} (LeakyReLU slope, BatchNorm epsilon, image "
            f"normalization): set {flags}"
        )


def _check_shapes(flat: dict[str, Any], variables: Any) -> None:
    wanted = flatten_dict(variables, sep="/")
    for path in wanted.keys() | flat.keys():
        if path not in wanted or path not in flat or wanted[path].shape != flat[path].shape:
            raise AssertionError(f"initial weights: {path} does not match the network")
