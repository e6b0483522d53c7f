"""Command-line flags shared by the benchmarks."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lts_jax.io.console import configure_logging
from tfds_refcoco.console import prepare_streams


def make_parser(
    description: str | None, *, config: bool = False, out: bool = True
) -> argparse.ArgumentParser:
    """Returns a parser with the flags that benchmarks share.

    Args:
      description: the module's docstring.
      config: whether to add `--config` and overrides `--config.a.b=…`.
      out: whether to add `--out`, a JSON file.
    """
    spec = sys.modules["__main__"].__spec__
    parser = argparse.ArgumentParser(
        prog=f"python -m {spec.name}" if spec else None,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    if config:
        parser.add_argument(
            "--config",
            required=True,
            metavar="NAME",
            help="name of a shipped config or path of a .py file, optionally with :VARIANT; "
            "override fields with --config.model.dtype=bfloat16",
        )
        parser.set_defaults(overrides=[])
    if out:
        parser.add_argument("--out", type=Path, metavar="FILE", help="JSON file to write")
    return parser


def parse_arguments(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parses a command line, by default `sys.argv`, and enables log messages.

    If the parser has `--config`, the result's `overrides` are the arguments that set its fields.
    """
    prepare_streams()
    configure_logging()
    arguments = sys.argv[1:] if arguments is None else arguments
    if parser.get_default("overrides") is None:
        return parser.parse_args(arguments)
    # Deferred: `startup` measures imports.
    from lts_jax.config.flags import split_overrides

    overrides, others = split_overrides(arguments)
    args = parser.parse_args(others)
    args.overrides = overrides
    return args
