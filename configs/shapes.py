"""The generated set `shapes`, for two CPU cores: the same code, narrower, at 128 × 128."""

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
    """Overrides sizes and schedule."""
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
    config.model.segmenter_rates = (2, 4, 6)  # 6, 12, 18 scaled from the 52² grid to 16²
    config.model.refine_points = 1024  # of model.refine, which is off: images are smaller, too
    config.train.batch_size = 32
    config.train.sentences_per_image = 4  # 8 images: less work than 16 sentences with one each
    config.train.epochs = 2.2
    config.train.drop_epochs = (1.75,)
    config.train.location_weight = 1.0  # at the paper's 0.1 the locator learns later
    config.eval.every_epochs = 0.55
    config.eval.batch_size = 64
    apply_variant(config, variant)
    if variant in TABLE_3:  # a network of other widths, and an optimizer for a frozen backbone
        config.update_from_flattened_dict(_NARROW_CMPC)
    return config
