"""The one error this package raises for bad input."""


class DataError(ValueError):
    """Bad input. The message names the file, the field and the mend.

    Attributes:
      skippable: whether the fault is of a single item, which a build can leave out.
    """

    skippable = False
