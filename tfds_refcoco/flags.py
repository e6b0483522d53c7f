"""Argument types for command-line flags."""

import argparse
from pathlib import Path


def local_path(text: str) -> Path:
    """Returns a local path; rejects URLs, such as a bucket's."""
    if "://" in text:  # Path would treat it as a local folder
        raise argparse.ArgumentTypeError(f"{text} is not a local path; copy or mount it first")
    return Path(text)


def positive(text: str) -> int:
    """Returns a positive integer."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive integer")
    return int(text)


def not_negative(text: str) -> int:
    """Returns a non-negative integer."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a non-negative integer")
    return int(text)
