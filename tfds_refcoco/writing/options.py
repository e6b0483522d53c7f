"""Options of a build."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """Options of a build.

    Attributes:
      splits: splits to build; all if empty.
      max_images: maximum number of images per split; None for all.
      skip_bad: whether to skip and list invalid items instead of raising.
      progress: whether to show a progress bar for each split.
    """

    splits: tuple[str, ...] = ()
    max_images: int | None = None
    skip_bad: bool = False
    progress: bool = False
