"""Handling of invalid input: raise the first error, or skip invalid items and list them."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tfds_refcoco.errors import DataError


class Problems:
    """Errors of single images, refs and sentences.

    Attributes:
      skip: whether to skip and list invalid items; otherwise the first error is raised.
      messages: error messages of the skipped items.
      notes: counts of other items, such as those that the dataset's authors leave out.
    """

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.messages: list[str] = []
        self.notes: Counter[str] = Counter()

    @contextmanager
    def skipping(self) -> Iterator[None]:
        """Suppresses and records a DataError of the block if `skip` is set."""
        try:
            yield
        except DataError as error:
            error.skippable = True
            if not self.skip:
                raise
            self.messages.append(str(error))
