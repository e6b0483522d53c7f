"""Segments what sentences refer to in any picture.

    lts predict --model photos --image photo.jpg --text "left cup" --out predictions
    lts predict --workdir runs/refcoco --image photo.jpg --text "man on the left" --out predictions

Writes mask, heatmap and overlay as PNG, and predictions.json with RLE and box.
"""

import argparse
from pathlib import Path

from lts_jax.cli.trained import add_trained_arguments, check_names_one, read_predictor
from lts_jax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_trained_arguments(parser)
    parser.add_argument("--image", metavar="FILE", help="the picture")
    parser.add_argument(
        "--text", action="append", default=[], help="what to segment; may be repeated"
    )
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help='lines of {"image": FILE, "text": TEXT}, the pictures relative to the file',
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the results of another prediction there"
    )


def run(args: argparse.Namespace) -> None:
    """Predicts."""
    check_names_one(args)
    from lts_jax.inference import batch

    jobs = batch.read_jobs(args.image, args.text, args.jsonl)
    if not args.out:
        raise ConfigError("--out: give the folder of the results")
    predictor = read_predictor(args)
    with batch.results_folder(Path(args.out), args.overwrite) as out:
        batch.write_predictions(predictor, jobs, out)
