"""Types of the flags of commands."""

import argparse
from pathlib import Path


def local_path(text: str) -> Path:
    """Returns a path; refuses an address, such as that of a bucket."""
    if "://" in text:  # of which Python would make a local folder
        raise argparse.ArgumentTypeError(f"{text} is no path of this machine: copy or mount it")
    return Path(text)


def positive(text: str) -> int:
    """Returns a whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def not_negative(text: str) -> int:
    """Returns a whole number that is 0 or more."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)
