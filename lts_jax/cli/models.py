"""Lists the trained networks that come with the package, or prints the card of one.

    lts models
    lts models photos

Use one by its name: `lts predict --model NAME`, `lts_jax.Predictor.from_pretrained(NAME)`.
"""

import argparse

from lts_jax.errors import ConfigError
from lts_jax.io.console import format_table
from lts_jax.zoo import catalogue


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    parser.add_argument("name", nargs="?", help="of a network whose card to print")


def run(args: argparse.Namespace) -> None:
    """Lists the networks, or prints a card."""
    if args.name:
        folder = catalogue.folder(args.name)
        if folder is None:
            known = ", ".join(catalogue.names())
            raise ConfigError(f"no network {args.name!r}; there are {known}")
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
