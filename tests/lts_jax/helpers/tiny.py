"""Sizes of a real but tiny network.

They are fields of `lts_jax.models.LTS` and of `config.model`. The network has all parts, each with
few channels.
"""

from ml_collections import ConfigDict

TINY = {
    "embed_dim": 8,
    "gru_features": 8,
    "backbone_width": 4,
    "backbone_stages": (1, 1, 1, 1, 1),
    "fused_features": 16,
    "segmenter_features": 8,
    "segmenter_rates": (1, 2, 3),
}


def leave_little(config: ConfigDict) -> ConfigDict:
    """Minimizes compilation, for tests that start processes several times."""
    config.model.update(backbone_stages=(0, 0, 0, 0, 0), neck=False, locate="none", segment=False)
    config.train.location_weight = 0.0
    config.data.image_size = 32
    return config
