"""Serves a local web page: drop an image, type sentences, and see the predicted masks.

    lts demo
    lts demo --workdir runs/refcoco --port 8000

Requires `pip install 'lts_jax[demo]'`. From another machine: ssh -L 7860:localhost:7860 HOST
"""

import argparse
from pathlib import Path

from lts_jax.cli.trained import add_trained_arguments, check_names_one, names_run, read_predictor

_MODEL = "photos"
_PORT = 7860


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_trained_arguments(parser)
    parser.add_argument(
        "--port", type=int, default=_PORT, help=f"port of the page (default: {_PORT})"
    )
    parser.add_argument(
        "--share",
        choices=("never",),
        default="never",
        help="never expose the page to other machines",
    )


def run(args: argparse.Namespace) -> None:
    """Serves the page."""
    if not names_run(args):
        args.model = args.model or _MODEL
    check_names_one(args)
    from lts_jax.demo import page

    page.check_can_serve(args.port)
    name = args.model or args.checkpoint or args.workdir or args.config
    page.serve(read_predictor(args), f"LTS: {Path(name).name}", args.port)
