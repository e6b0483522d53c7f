"""Opening of datasets, and training on a subset of the images."""

from pathlib import Path

import pytest

import tfds_refcoco
from lts_jax.data import datasets, pipeline
from lts_jax.distributed.mesh import one_device
from lts_jax.experiment.experiment import Experiment


def test_only_training_builds_datasets(tiny_config_factory, tmp_path, monkeypatch):
    """A checkpoint's config may name a dataset directory that does not exist on this machine."""
    monkeypatch.chdir(tmp_path)
    config = tiny_config_factory()
    config.data.dir = "data"
    used = Experiment(config, one_device(), ["red"])
    with pytest.raises(tfds_refcoco.DataError, match="shapes is not built") as error:
        used.dataset  # noqa: B018
    assert "python -m tfds_refcoco build --dataset shapes --out data" in str(error.value)
    assert not list(tmp_path.iterdir())


def test_training_on_listed_images(tiny_config_factory, tmp_path):
    config = tiny_config_factory()
    dataset = tfds_refcoco.open_dataset(Path(config.data.dir), "shapes")
    complete = datasets.open_train_split(dataset, "train", None)
    ids = sorted(set(complete.index.image_id.tolist()))
    path = tmp_path / "ids.txt"
    path.write_text(f"# some\n{ids[1]}\n{ids[0]}\n999999\n")
    part = datasets.open_train_split(dataset, "train", path)
    rows = [i for i, image in enumerate(complete.index.image_id) if image in ids[:2]]
    assert part.index.sent_id.tolist() == complete.index.sent_id[rows].tolist()
    assert part.index.text == [complete.index.text[i] for i in rows]
    assert (part.counts.images, part.counts.sentences) == (2, len(rows))
    assert pipeline.training_order(part).epoch_length == len(rows)
    assert pipeline.training_order(part, unit="refs").epoch_length == len(
        set(part.index.ref_id.tolist())
    )
    for row in range(len(rows)):  # the index still refers to the right records
        record = part.record(int(part.index.record[row]))
        assert record["sentences"]["sent"][part.index.sentence[row]] == part.index.text[row]
    # A resumed run must use the same images.
    assert datasets.describe_split(part) != datasets.describe_split(complete)

    path.write_text("999999\n")
    with pytest.raises(tfds_refcoco.DataError, match="lists no image of train of shapes"):
        datasets.open_train_split(dataset, "train", path)
    path.write_text("one\n")
    with pytest.raises(tfds_refcoco.DataError, match="line 1: 'one' is not an image id"):
        datasets.open_train_split(dataset, "train", path)
