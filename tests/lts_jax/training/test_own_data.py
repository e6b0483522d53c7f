"""From annotation files to a trained and evaluated network."""

import json

import numpy as np
import pytest

import tfds_refcoco
from lts_jax.training.loop import train_and_evaluate
from tests.tfds_refcoco.helpers.golden import GOLDEN
from tests.tfds_refcoco.importers.conftest import Workshop


@pytest.mark.slow
@pytest.mark.parametrize("kind", GOLDEN)
def test_what_is_imported_trains_and_evaluates(kind, tmp_path, tiny_config_factory):
    """Imports and builds each format's golden dataset, trains ten steps, and evaluates val."""
    workshop = Workshop(tmp_path)
    assert workshop.run(*GOLDEN[kind](workshop)) == 0
    tfds_refcoco.build("custom", tmp_path / "data", workshop.out, progress=False)
    built = tfds_refcoco.open_dataset(tmp_path / "data", "custom")
    train, val = (len(built.split(name).index) for name in ("train", "val"))
    config = tiny_config_factory()
    config.data.update(dataset="custom", dir=str(tmp_path / "data"))
    config.train.update(batch_size=2, epochs=20 / train, drop_epochs=(15 / train,))
    config.eval.update(splits=("val",), best_split="val", every_epochs=10 / train)
    train_and_evaluate(config, tmp_path / "run")
    logged = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").open()]
    assert max(line["step"] for line in logged) == 10
    assert all(np.isfinite(line["train/loss"]) for line in logged if "train/loss" in line)
    metrics = json.loads((tmp_path / "run/eval/val/metrics.json").read_text())
    assert metrics["sentences"] == val and 0 <= metrics["oiou"] <= 1
