"""RefCOCO, RefCOCO+ and RefCOCOg jointly. Not in the paper, and not measured here yet.

Images that any of the three datasets holds out are excluded from training: for example, 1,860
images of RefCOCOg's train split are in RefCOCO's val and test splits. The number of epochs gives
about as many steps as in the paper.

    python -m tfds_refcoco build --dataset refcoco_unc --raw RAW --out data  # and the other two
    python -m lts_jax.main --config configs/joint.py
"""

from ml_collections import ConfigDict

from lts_jax.configs import default
from lts_jax.configs.variants import apply_variant

_SPLITS = {
    "refcoco_unc": ("val", "testA", "testB"),
    "refcocoplus_unc": ("val", "testA", "testB"),
    "refcocog_umd": ("val", "test"),
}


def get_config(variant: str = "lts") -> ConfigDict:
    """Overrides the datasets, their splits, the sentence length and the schedule."""
    config = default.get_config()
    config.data.dataset = "+".join(_SPLITS)
    config.data.max_words = 20
    config.train.epochs = 18.0
    config.train.drop_epochs = (12.0,)
    config.eval.splits = tuple(f"{name}/{x}" for name, of_set in _SPLITS.items() for x in of_set)
    config.eval.best_split = ",".join(f"{name}/val" for name in _SPLITS)
    return apply_variant(config, variant)
