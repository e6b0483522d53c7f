"""RefCOCOg (UMD split) with the paper's settings. Its expressions are longer.

The paper reports IoU 54.40 / 54.25 on val / test (Table 1). Not measured here yet.

    python -m tfds_refcoco build --dataset refcocog_umd --raw RAW --out data
    python -m lts_jax.main --config configs/refcocog.py
"""

from ml_collections import ConfigDict

from lts_jax.configs import default
from lts_jax.configs.variants import apply_variant


def get_config(variant: str = "lts") -> ConfigDict:
    """Overrides the dataset, its splits and the sentence length."""
    config = default.get_config()
    config.data.dataset = "refcocog_umd"
    config.data.max_words = 20
    config.eval.splits = ("val", "test")
    return apply_variant(config, variant)
