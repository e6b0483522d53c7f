"""RefCOCO (UNC split) with the paper's settings.

The paper: IoU 65.43 / 67.76 / 63.08 on val / testA / testB (Table 1), with a Darknet53 that was
pretrained on COCO. Not measured here yet.

    python -m tfds_refcoco build --dataset refcoco_unc --raw RAW --out data
    python -m lts_jax.main --config configs/refcoco.py
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """The defaults are this set's."""
    return default.get_config()
