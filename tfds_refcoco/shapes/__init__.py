"""A synthetic dataset of referring expressions, in RefCOCO's raw layout."""

from tfds_refcoco.shapes.write import DEFAULT_SCENES, generate

__all__ = ["DEFAULT_SCENES", "generate"]
