"""The network: Darknet53, bi-GRU, fusion, locator, segmenter.

Notation: B batch, H W image size, T words, D features.
"""

from lts_jax.models.lts import LTS, Outputs

__all__ = ["LTS", "Outputs"]
