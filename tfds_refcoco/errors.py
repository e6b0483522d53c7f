"""The error that this package raises for invalid input."""


class DataError(ValueError):
    """Invalid input: a file, a field in it, an option, or a data set that is not built.

    The message names the file, the field and the value, and says how to fix it, so that a program
    can print it instead of a traceback:

        try:
            built = tfds_refcoco.open_dataset(Path("data"), "refcoco_unc")
        except tfds_refcoco.DataError as error:
            sys.exit(f"error: {error}")

    Attributes:
      skippable: whether only one image, ref or sentence is invalid, which a build can leave out
        (`skip_bad`).
    """

    skippable: bool = False
