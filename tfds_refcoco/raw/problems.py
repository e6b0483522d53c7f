"""What to do with bad input: stop at the first of it, or leave it out and list it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tfds_refcoco.errors import DataError


class Problems:
    """Faults of single images, refs and sentences.

    Attributes:
      skip: whether faulty items are left out and listed; otherwise the first one is raised.
      found: the messages of what was left out.
      notes: what a data set's authors leave out, too, by its kind: how often.
    """

    def __init__(self, skip: bool = False) -> None:
        self.skip = skip
        self.found: list[str] = []
        self.notes: Counter[str] = Counter()

    @contextmanager
    def skipping(self) -> Iterator[None]:
        """Ends the block at a DataError: what it was to add is left out."""
        try:
            yield
        except DataError as error:
            error.skippable = True
            if not self.skip:
                raise
            self.found.append(str(error))
