"""The network: backbone, sentence encoder, fusion, locator, segmenter.

Notation: B batch, H W image size, T words, D features.
"""

from lts_jax.models.inspection import refer_with_maps
from lts_jax.models.lts import LTS, Outputs, PreparedImage
from lts_jax.models.segmenter import Segmenter

__all__ = ["LTS", "Outputs", "PreparedImage", "Segmenter", "refer_with_maps"]
