"""Folders compared byte for byte."""

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """Reads all files below a folder, so that two folders can be compared with `==`.

    Args:
      folder: such as a built data set.

    Returns:
      The content of each file by its path relative to the folder, such as "index/val.json".
    """
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def leftovers(out: Path) -> list[str]:
    """Returns the names of the working folders that builds in `out` have left.

    Args:
      out: the folder that sets are built in.

    Returns:
      Names such as ".building-refcoco_unc", none after every build that was not killed. The lock
      files, which always stay, are not counted.
    """
    return [path.name for path in out.glob(".building-*") if path.suffix != ".lock"]
