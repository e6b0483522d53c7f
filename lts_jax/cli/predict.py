"""Segments the objects that sentences refer to in an image.

    lts predict --model photos --image photo.jpg --text "left cup" --out predictions
    lts predict --workdir runs/refcoco --image photo.jpg --text "man on the left" --out predictions

Writes the mask, heatmap and overlay as PNG files, and RLE masks and boxes to predictions.json.
"""

import argparse
from pathlib import Path

from lts_jax.cli.trained import add_trained_arguments, check_names_one, read_predictor
from lts_jax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_trained_arguments(parser)
    parser.add_argument("--image", metavar="FILE", help="the image")
    parser.add_argument(
        "--text", action="append", default=[], help="referring expression; may be repeated"
    )
    parser.add_argument(
        "--jsonl",
        metavar="FILE",
        help='file with lines of {"image": FILE, "text": TEXT}; image paths are relative to it',
    )
    parser.add_argument("--out", metavar="DIR", help="output folder (required)")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace existing results in the output folder"
    )


def run(args: argparse.Namespace) -> None:
    """Predicts the masks."""
    check_names_one(args)
    from lts_jax.inference import batch

    jobs = batch.read_jobs(args.image, args.text, args.jsonl)
    if not args.out:
        raise ConfigError("--out is required: specify the output folder")
    predictor = read_predictor(args)
    with batch.results_folder(Path(args.out), args.overwrite) as out:
        batch.write_predictions(predictor, jobs, out)
