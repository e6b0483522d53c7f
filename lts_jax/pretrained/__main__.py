"""The command that reads other people's weights.

python -m lts_jax.pretrained darknet yolov3.weights --out backbone.safetensors
python -m lts_jax.pretrained glove glove.840B.300d.zip --config configs/refcoco.py
"""

import argparse
import sys
from pathlib import Path

from lts_jax import experiment, first_weights
from lts_jax.cli import requested_config
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.pretrained import word_vectors
from lts_jax.pretrained.backbone import load_backbone, save_backbone
from lts_jax.pretrained.layout import Network
from tfds_refcoco import DataError


def convert_darknet(given: argparse.Namespace) -> None:
    """Reads a backbone's file, says what it is, and writes it as .safetensors."""
    out: Path = given.out
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out={out} must end in .safetensors")
    backbone = load_backbone(given.file, Network(neck=not given.no_neck))
    for name, value in backbone.source.items():
        if name != "warning":
            print(f"{name}: {value}")
    if "warning" in backbone.source:
        print(f"WARNING: {backbone.source['warning']}")
    save_backbone(out, backbone)
    print(f"wrote {out}; train with --config.model.backbone_weights={out}")


def look_up_vectors(given: argparse.Namespace) -> None:
    """Looks a data set's words up in GloVe's file, and prints how many it has."""
    if given.out and given.out.suffix != ".npz":
        raise ConfigError(f"--out={given.out} must end in .npz")
    config = requested_config(given.config, given.overrides)
    dataset = experiment.open_data(config)
    train = dataset.split(config.data.train_split)
    vocabulary = Vocabulary.build(train.index.text, config.data.min_count)
    vectors = word_vectors.cached_vectors(
        given.file, vocabulary.words, config.model.embed_dim, first_weights.vectors_cache()
    )
    print(f"sha256: {vectors.sha256}")
    first_weights.print_odd(vectors)
    for name in dict.fromkeys((config.data.train_split, *config.eval.splits)):
        counts = word_vectors.coverage(vectors, vocabulary, dataset.split(name).index.text)
        print(f"{name}: {word_vectors.describe_coverage(counts)}")
    if given.out:
        source = word_vectors.describe_vectors(given.file, vectors)
        word_vectors.write_vectors(given.out, vectors, vocabulary.words, source)
        print(f"wrote {given.out}; train with --config.model.word_vectors={given.out}")


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments say."""
    parser = argparse.ArgumentParser(prog="python -m lts_jax.pretrained")
    commands = parser.add_subparsers(required=True, metavar="darknet|glove")
    darknet = commands.add_parser("darknet", help="a Darknet53 of any file format to .safetensors")
    darknet.add_argument("file", type=Path)
    darknet.add_argument("--out", type=Path, required=True)
    darknet.add_argument("--no_neck", action="store_true", help="as model.neck=False")
    darknet.set_defaults(run=convert_darknet)
    vectors = commands.add_parser("glove", help="which words of a data set have a vector")
    vectors.add_argument("file", type=Path)
    vectors.add_argument("--config", required=True, help="file of the data set and embed_dim")
    vectors.add_argument("--out", type=Path, help="the vocabulary's vectors alone, .npz")
    vectors.set_defaults(run=look_up_vectors)
    given, overrides = parser.parse_known_args(arguments)
    unknown = [x for x in overrides if not x.startswith("--config.")]
    if unknown or (overrides and given.run is convert_darknet):
        parser.error(f"unknown arguments: {' '.join(unknown or overrides)}")
    given.overrides = overrides
    try:
        given.run(given)
    except (ConfigError, DataError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
