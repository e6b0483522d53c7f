"""The error that this package raises for invalid input."""


class DataError(ValueError):
    """Invalid input: a file, a field, an option, or a dataset that is not built.

    The message names the file, the field and the value, and explains how to fix it, so a program
    can print it instead of a traceback:

        try:
            built = tfds_refcoco.open_dataset(Path("data"), "refcoco_unc")
        except tfds_refcoco.DataError as error:
            sys.exit(f"error: {error}")

    Attributes:
      skippable: whether the error affects a single image, ref or sentence, which a build can skip
        (`skip_bad`).
    """

    skippable: bool = False
