"""Folders compared byte for byte."""

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the files below a folder by relative path."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
