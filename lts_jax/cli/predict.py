"""Segments what sentences refer to in any picture.

    lts predict --model photos --image photo.jpg --text "left cup" --out predictions
    lts predict --workdir runs/refcoco --image photo.jpg --text "man on the left" --out predictions

Writes mask, heatmap and overlay as PNG, and predictions.json with RLE and box.
"""

import argparse
from pathlib import Path

from lts_jax.cli.session import (
    add_run_arguments,
    check_devices,
    check_local_paths,
    check_saved_fields,
    configure_jax,
    run_folder,
    trained_config,
)
from lts_jax.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_run_arguments(parser, checkpoint=True)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a network of `lts models`, a folder of a run or of `lts export`, or "
        "hf://owner/name[@revision]; instead of the flags above",
    )
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
    if args.model and (args.workdir or args.checkpoint or args.config):
        raise ConfigError("--model goes without --workdir, --checkpoint and --config")
    if not args.model:
        workdir, step = run_folder(args)
    check_local_paths(args)
    from lts_jax.inference import batch
    from lts_jax.inference.predictor import Predictor

    jobs = batch.read_jobs(args.image, args.text, args.jsonl)
    if not args.out:
        raise ConfigError("--out: give the folder of the results")
    configure_jax()
    check_devices()
    if args.model:
        check_saved_fields(args.overrides)
        predictor = Predictor.from_pretrained(args.model, args.overrides)
    else:
        predictor = Predictor(workdir, step, trained_config(args, workdir, step))
    with batch.results_folder(Path(args.out), args.overwrite) as out:
        batch.write_predictions(predictor, jobs, out)
