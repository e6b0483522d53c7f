"""Batches from several datasets that share some of their images."""

import numpy as np
import pytest

from lts_jax.data import pipeline
from lts_jax.data.sampler import HostShare
from lts_jax.errors import ConfigError
from tests.helpers import add_custom
from tests.lts_jax.data.test_pipeline import assert_same, make_preprocessing
from tfds_refcoco.records.joint import open_datasets


@pytest.fixture(scope="module")
def train(shapes_dir, tmp_path_factory):
    """Returns `shapes` train, and a custom dataset with sentences about 5 of its images."""
    out = tmp_path_factory.mktemp("joint") / "data"
    add_custom(out, shapes_dir, {"train": range(3, 8)}, sentences=4)
    return open_datasets(out, "shapes+custom").split("train")


def test_sentences_of_both_datasets_share_an_image(train):
    preprocessing = make_preprocessing(train)
    order = pipeline.training_order(train, seed=2, per_image=3)
    batches = iter(pipeline.train_batches(train, order, preprocessing, batch_size=12, threads=2))
    mixed = 0
    for number in range(2 * order.epoch_length // 12):
        rows, batch = HostShare(order, 12)[number], next(batches)
        assert len(batch["image"]) == 4
        alone = [preprocessing.train_batch(train, [row]) for row in rows]
        assert_same(
            [batch | {"image": np.repeat(batch["image"], 3, axis=0)}],
            [{name: np.concatenate([one[name] for one in alone]) for name in batch}],
        )
        mixed += sum(len(set(of)) > 1 for of in np.split(train.dataset[rows], 4))
    assert mixed > 2


def test_each_sentence_once_an_epoch_and_by_weight(train):
    n = len(train.index)
    order = pipeline.training_order(train)
    assert sorted(order[i] for i in range(n)) == list(range(n))
    order = pipeline.training_order(train, mix=(1.0, 3.0))
    of_custom = sum(int(train.dataset[order[i]]) for i in range(n))
    assert order.epoch_length == n and of_custom == n - round(n / 4)


def test_invalid_mixes_are_refused(train):
    for mix, per_image, message in (
        ((1.0,), 1, "must have a weight for each of shapes, custom"),
        ((1.0, 2.0), 2, "requires train.sentences_per_image=1"),
        ((1e-6, 1.0), 1, "leaves no sentence of a dataset in an epoch"),
    ):
        with pytest.raises(ConfigError, match=message):
            pipeline.training_order(train, per_image=per_image, mix=mix)
