"""Sizes of a real but tiny network.

They are fields of `lts_jax.models.LTS` and of `config.model`. Every part is there, each as narrow
as it can be, so that compiling takes most of the time of a test.
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
    """Leaves next to nothing to compile, for tests of processes that are started several times."""
    config.model.update(backbone_stages=(0, 0, 0, 0, 0), neck=False, locate="none", segment=False)
    config.train.location_weight = 0.0
    config.data.image_size = 32
    return config
