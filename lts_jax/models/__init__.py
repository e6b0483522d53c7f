"""The networks and their parts: backbone, sentence encoder, fusion, locator and segmenter.

Notation: B batch, H W image size, T words, D features.
"""

from lts_jax.models.cmpc.network import CMPC
from lts_jax.models.inspection import refer_with_maps
from lts_jax.models.lts import LTS
from lts_jax.models.network import Network, Outputs, PixelsAndFeatures, PreparedImage
from lts_jax.models.segmenter import Segmenter

NETWORKS: dict[str, type[Network]] = {"lts": LTS, "cmpc": CMPC}
"""The networks by `model.network`."""

__all__ = [
    "CMPC",
    "LTS",
    "NETWORKS",
    "Network",
    "Outputs",
    "PixelsAndFeatures",
    "PreparedImage",
    "Segmenter",
    "refer_with_maps",
]
