"""RefCOCO+ (UNC split) with the paper's settings. Its expressions contain no location words.

The paper reports IoU 54.21 / 58.32 / 48.02 on val / testA / testB (Table 1). Not measured here yet.

    python -m tfds_refcoco build --dataset refcocoplus_unc --raw RAW --out data
    python -m lts_jax.main --config configs/refcocoplus.py
"""

from ml_collections import ConfigDict

from lts_jax.configs import default
from lts_jax.configs.variants import apply_variant


def get_config(variant: str = "lts") -> ConfigDict:
    """Overrides the dataset."""
    config = default.get_config()
    config.data.dataset = "refcocoplus_unc"
    return apply_variant(config, variant)
