"""Converts Darknet53 weights of any supported format, or looks up word vectors.

lts pretrained darknet yolov3.weights --out backbone.safetensors
lts pretrained glove glove.840B.300d.zip --config refcoco --out vectors.npz
"""

import argparse
from pathlib import Path

from lts_jax.cli.arguments import CONFIG_HELP
from lts_jax.cli.session import check_devices, configure_jax
from lts_jax.config.flags import load_config
from lts_jax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    commands = parser.add_subparsers(required=True, metavar="darknet|glove")
    darknet = commands.add_parser(
        "darknet",
        help="convert a Darknet53 to .safetensors",
        description="Example: lts pretrained darknet yolov3.weights --out backbone.safetensors",
        allow_abbrev=False,
    )
    darknet.add_argument("file", type=Path)
    darknet.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    darknet.add_argument(
        "--no_neck", action="store_true", help="convert without the neck (model.neck=False)"
    )
    darknet.set_defaults(convert=convert_darknet)
    vectors = commands.add_parser(
        "glove",
        help="count the words of a dataset that have a vector",
        description="Example: lts pretrained glove glove.840B.300d.zip --config refcoco",
        allow_abbrev=False,
    )
    vectors.add_argument("file", type=Path)
    vectors.add_argument("--config", required=True, metavar="NAME", help=CONFIG_HELP)
    vectors.add_argument("--out", type=Path, help="write the vocabulary's vectors to an .npz file")
    vectors.set_defaults(convert=look_up_vectors)


def run(args: argparse.Namespace) -> None:
    """Runs the chosen conversion."""
    args.convert(args)


def convert_darknet(args: argparse.Namespace) -> None:
    """Reads a backbone file, prints its properties, and writes it as .safetensors."""
    from lts_jax.pretrained.backbone import load_backbone, save_backbone
    from lts_jax.pretrained.layout import Network

    out: Path = args.out
    if out.suffix != ".safetensors":
        raise ConfigError(f"--out={out} must end in .safetensors")
    backbone = load_backbone(args.file, Network(neck=not args.no_neck))
    for name, value in backbone.source.items():
        if name != "warning":
            print(f"{name}: {value}")
    if "warning" in backbone.source:
        print(f"WARNING: {backbone.source['warning']}")
    save_backbone(out, backbone)
    conventions = backbone.source["conventions"]
    flags = f"--config.model.backbone_weights={out}"
    if args.no_neck:
        flags += " --config.model.neck=False"
    if conventions != ["darknet"]:
        each = (f"--config.model.backbone_conventions={name}" for name in conventions)
        flags += f" {' or '.join(each)}"
    print(f"wrote {out}; train with {flags}")


def look_up_vectors(args: argparse.Namespace) -> None:
    """Looks up a dataset's words in a file of vectors and prints the coverage."""
    from lts_jax.data.vocabulary import Vocabulary
    from lts_jax.distributed.mesh import one_device
    from lts_jax.experiment.experiment import Experiment
    from lts_jax.pretrained import word_vectors

    if args.out and args.out.suffix != ".npz":
        raise ConfigError(f"--out={args.out} must end in .npz")
    configure_jax()
    check_devices()
    config = load_config(args.config, args.overrides)
    experiment = Experiment(config, one_device())
    vocabulary = experiment.vocabulary
    if not isinstance(vocabulary, Vocabulary):
        raise ConfigError("model.text=bert uses no word vectors: set model.text=gru or lstm")
    vectors = word_vectors.cached_vectors(
        args.file, vocabulary.words, config.model.embed_dim, word_vectors.default_cache()
    )
    print(f"sha256: {vectors.sha256}")
    if odd := word_vectors.describe_odd_lines(vectors):
        print(odd)
    for name in dict.fromkeys((config.data.train_split, *config.eval.splits)):
        sentences = experiment.dataset.split(name).index.text
        counts = word_vectors.coverage(vectors, vocabulary, sentences)
        print(f"{name}: {word_vectors.describe_coverage(counts)}")
    if args.out:
        source = word_vectors.describe_vectors(args.file, vectors)
        word_vectors.write_vectors(args.out, vectors, vocabulary.words, source)
        print(f"wrote {args.out}; train with --config.model.word_vectors={args.out}")
