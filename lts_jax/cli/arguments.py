"""Flags that several commands share."""

import argparse
from pathlib import Path

from lts_jax.config.flags import config_path

CONFIG_HELP = (
    "name of a shipped config (refcoco, refcocoplus, refcocog, shapes, …) or path to a .py file; "
    "NAME:VARIANT selects a variant. Override any field with "
    "--config.SECTION.FIELD=VALUE; lts_jax/configs/default.py describes the fields"
)


def default_workdir(config: str) -> Path:
    """Returns `runs/<config>[_<variant>]`.

    Raises:
      ConfigError: the config does not exist.
    """
    path, variant = config_path(config)
    return Path("runs") / (path.stem + (f"_{variant}" if variant not in ("", "lts") else ""))


def positive(text: str) -> int:
    """Parses an integer of at least 1, for argparse."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def not_negative(text: str) -> int:
    """Parses an integer of at least 0, for argparse."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer of at least 0")
    return int(text)
