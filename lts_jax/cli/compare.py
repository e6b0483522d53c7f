"""Compares two runs on the same sentences, with paired 95 % intervals.

    lts compare runs/a runs/b --split val

A run is a workdir that was evaluated, a folder that `lts score --out` wrote, or a predictions.json
of either.
"""

import argparse
from pathlib import Path

from lts_jax.cli.arguments import not_negative
from lts_jax.evaluation.comparison import compare, print_comparison, read_run
from lts_jax.io.files import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("a", help="a run")
    parser.add_argument("b", help="another run")
    parser.add_argument("--split", default="val", help="the split that was evaluated")
    parser.add_argument(
        "--examples", type=not_negative, default=10, help="sentences to list in either direction"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file with all sentences")


def run(args: argparse.Namespace) -> None:
    """Compares."""
    found = compare(*(read_run(Path(path), args.split) for path in (args.a, args.b)))
    if args.out:
        write_json(args.out, {"a": args.a, "b": args.b} | found)
    print_comparison(found, args.examples)
