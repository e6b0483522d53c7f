"""RefCOCO, RefCOCO+, RefCOCOg and others as TensorFlow Datasets, without TensorFlow."""

# Both modules import tensorflow-datasets only when called, so importing the package is quick.
from tfds_refcoco.errors import DataError
from tfds_refcoco.records.reader import open_dataset
from tfds_refcoco.writing.build import build

__all__ = ["DataError", "build", "open_dataset"]
