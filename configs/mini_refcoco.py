"""Trains and evaluates on the same twelve RefCOCO images: checks the pipeline, not accuracy."""

import os
from pathlib import Path

from ml_collections import ConfigDict

from lts_jax.configs import shapes
from lts_jax.configs.variants import apply_variant


def get_config(variant: str = "lts") -> ConfigDict:
    """Uses the network of shapes.py at 224 × 224; these files have no train split."""
    config = shapes.get_config()
    files = Path(os.environ.get("LTS_TEST_DATA") or "../shared/data")
    config.data.dataset = "refcoco_unc"
    config.data.raw = str(files / "mini_refcoco")
    config.data.dir = "data/mini_refcoco"  # separate from the full refcoco_unc
    config.data.train_split = "val+testA+testB"
    config.data.image_size = 224
    config.data.max_words = 15
    config.model.segmenter_rates = (3, 6, 9)
    config.train.batch_size = 8
    config.train.sentences_per_image = 1
    config.train.epochs = 150.0
    config.train.drop_epochs = (120.0,)
    config.eval.best_split = "val+testA+testB"
    config.eval.splits = ("val+testA+testB",)
    config.eval.every_epochs = 25.0
    return apply_variant(config, variant)
