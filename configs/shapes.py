"""The generated dataset `shapes` with a narrow network at 128 × 128, for two CPU cores."""

from ml_collections import ConfigDict

from lts_jax.configs import default
from lts_jax.configs.variants import TABLE_3, apply_variant

_NARROW_CMPC = {
    "data.image_size": 128,
    "data.max_words": 12,
    "model.gru_features": 128,
    "model.backbone_weights": "",
    "model.backbone_width": 8,
    "model.backbone_stages": (1, 1, 1, 1),
    "model.level_features": 32,
    "model.fused_features": 32,
    "train.freeze": "none",
    "train.batch_size": 32,
    "train.epochs": 2.2,
    "train.learning_rate": 1e-3,
    "eval.batch_size": 64,
}


def get_config(variant: str = "lts") -> ConfigDict:
    """Overrides the sizes and the schedule."""
    config = default.get_config()
    config.data.dataset = "shapes"
    config.data.image_size = 128
    config.data.max_words = 12
    config.data.threads = 2
    config.model.embed_dim = 128
    config.model.gru_features = 128
    config.model.backbone_width = 8
    config.model.backbone_stages = (1, 1, 1, 1, 1)
    config.model.fused_features = 128
    config.model.segmenter_features = 32
    config.model.segmenter_rates = (2, 4, 6)  # 6, 12, 18 scaled from the 52 × 52 grid to 16 × 16
    config.model.refine_points = 1024  # for model.refine, off by default; the images are smaller
    config.train.batch_size = 32
    config.train.sentences_per_image = 4  # 8 images per batch; faster than 16 images with one each
    config.train.epochs = 2.2
    config.train.drop_epochs = (1.75,)
    config.train.location_weight = 1.0  # the locator learns later with the paper's 0.1
    config.eval.every_epochs = 0.55
    config.eval.batch_size = 64
    apply_variant(config, variant)
    if variant in TABLE_3:  # CMPC needs other widths, and a backbone that is not frozen
        config.update_from_flattened_dict(_NARROW_CMPC)
    return config
