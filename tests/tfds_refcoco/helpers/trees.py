"""Functions to compare the content of folders."""

from pathlib import Path


def contents(folder: Path) -> dict[str, bytes]:
    """Reads all files below a folder, so that two folders can be compared with `==`.

    Args:
      folder: a folder, such as a built dataset.

    Returns:
      The content of each file by its path relative to the folder, such as "index/val.json".
    """
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def leftovers(out: Path) -> list[str]:
    """Returns the names of leftover working folders of builds in `out`.

    Args:
      out: output folder of builds.

    Returns:
      Names such as ".building-refcoco_unc"; empty unless a build was killed. Lock files, which are
      never removed, are not included.
    """
    return [path.name for path in out.glob(".building-*") if path.suffix != ".lock"]
