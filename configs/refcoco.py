"""RefCOCO (UNC split) with the paper's settings.

The paper reports IoU 65.43 / 67.76 / 63.08 on val / testA / testB (Table 1), with a Darknet53
pretrained on COCO. Not measured here yet.

    python -m tfds_refcoco build --dataset refcoco_unc --raw RAW --out data
    python -m lts_jax.main --config configs/refcoco.py
    python -m lts_jax.main --config configs/refcoco.py:transformer
"""

from ml_collections import ConfigDict

from lts_jax.configs import default
from lts_jax.configs.variants import apply_variant


def get_config(variant: str = "lts") -> ConfigDict:
    """Returns the defaults, which are the settings for this dataset."""
    return apply_variant(default.get_config(), variant)
