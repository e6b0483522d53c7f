"""Lists the trained networks included in the package, or prints a model card.

    lts models
    lts models photos

Load a network by name: `lts predict --model NAME` or `lts_jax.Predictor.from_pretrained(NAME)`.
"""

import argparse

from lts_jax.errors import ConfigError
from lts_jax.io.console import format_table
from lts_jax.zoo import catalogue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("name", nargs="?", help="print this network's model card")


def run(args: argparse.Namespace) -> None:
    """Lists the networks or prints a model card."""
    if args.name:
        folder = catalogue.folder(args.name)
        if folder is None:
            known = ", ".join(catalogue.names())
            raise ConfigError(f"unknown network {args.name!r}; available: {known}")
        print((folder / catalogue.CARD).read_text(encoding="utf-8").rstrip())
        return
    rows = []
    for name in catalogue.names():
        folder = catalogue.folder(name)
        assert folder is not None
        described = catalogue.describe(folder)
        megabytes = (folder / catalogue.WEIGHTS).stat().st_size / 1e6
        config = described["config"]
        size = config["data"]["image_size"]
        backbone = config["model"]["backbone"]
        rows.append([name, f"{megabytes:.1f} MB", backbone, f"{size}²", described["about"]])
    print(format_table(("model", "weights", "backbone", "input", "about"), rows))
