"""What a user may choose of a build."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Of a build.

    Attributes:
      splits: those wanted, all where empty.
      max_images: the first so many of each split, None for all.
      skip_bad: whether faulty items are left out and listed instead of ending the build.
      progress: whether to show a bar for each split.
    """

    splits: tuple[str, ...] = ()
    max_images: int | None = None
    skip_bad: bool = False
    progress: bool = False
