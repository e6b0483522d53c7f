"""Compares two runs on the same sentences, with paired 95 % confidence intervals.

    lts compare runs/a runs/b --split val

A run is an evaluated workdir, a folder written by `lts score --out`, or a predictions.json file
from either.
"""

import argparse
from pathlib import Path

from lts_jax.cli.arguments import not_negative
from lts_jax.evaluation.comparison import compare, print_comparison, read_run
from lts_jax.io.files import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("a", help="the first run")
    parser.add_argument("b", help="the second run")
    parser.add_argument("--split", default="val", help="the evaluated split")
    parser.add_argument(
        "--examples", type=not_negative, default=10, help="number of sentences to list per run"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write all sentences to a JSON file"
    )


def run(args: argparse.Namespace) -> None:
    """Compares the runs."""
    comparison = compare(*(read_run(Path(path), args.split) for path in (args.a, args.b)))
    if args.out:
        write_json(args.out, {"a": args.a, "b": args.b} | comparison)
    print_comparison(comparison, args.examples)
