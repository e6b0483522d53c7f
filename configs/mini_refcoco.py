"""Twelve real images of RefCOCO, trained on and evaluated on: a wiring check, never a result."""

import os
from pathlib import Path

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Overrides data, sizes and schedule; there is no train split in these files."""
    config = default.get_config()
    shared = Path(os.environ.get("LTS_TEST_DATA") or "../shared/data")
    config.data.raw = str(shared / "mini_refcoco")
    config.data.dir = "data/mini_refcoco"  # apart from the real refcoco_unc
    config.data.train_split = "val+testA+testB"
    config.eval.best_split = "val+testA+testB"
    config.eval.splits = ("val+testA+testB", "val", "testA", "testB")
    return config
