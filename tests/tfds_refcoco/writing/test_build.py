"""Builds from real and synthetic raw files: their content, and cleanup after failures."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from pycocotools import mask as coco_mask

import tfds_refcoco
from tests.tfds_refcoco.helpers.trees import contents, leftovers
from tfds_refcoco import masks
from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.read import read_raw
from tfds_refcoco.writing.builder import TfdsRefcoco

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # from pycocotools


@pytest.fixture(scope="session")
def mini_built(mini_refcoco, tmp_path_factory):
    out = tmp_path_factory.mktemp("mini")
    path = tfds_refcoco.build("refcoco_unc", out, mini_refcoco, progress=False)
    assert path == out / "tfds_refcoco/refcoco_unc/3.0.0"
    return out


def test_real_build_is_complete(mini_built, mini_refcoco):
    built = tfds_refcoco.open_dataset(mini_built, "refcoco_unc")
    counts = {name: built.split(name).counts for name in built.splits}
    assert {name: c.sentences for name, c in counts.items()} == {
        "val": 45,
        "testA": 18,
        "testB": 33,
    }
    assert sum(c.images for c in counts.values()) == 12
    assert sum(c.refs for c in counts.values()) == 33
    for c in counts.values():
        assert 0.96 < c.area_ratio_min <= c.area_ratio_max < 1.005


def test_real_records_equal_the_raw_content(mini_built, mini_refcoco):
    instances = json.loads((mini_refcoco / "refcoco/instances.json").read_text())
    annotations = {row["id"]: row for row in instances["annotations"]}
    built = tfds_refcoco.open_dataset(mini_built, "refcoco_unc")
    for name, images in read_raw(mini_refcoco, "refcoco_unc").items():
        split = built.split(name)
        assert len(split) == len(images)
        for number, image in enumerate(images):
            record = split.record(number)
            assert record["image"] == image.file.path.read_bytes()
            for key in ("image_id", "file_name", "height", "width"):
                assert record[key] == getattr(image, key)
            sentences = record["sentences"]
            for i, sentence in enumerate(image.sentences):
                for key in ("sent_id", "ref_id", "sent", "raw", "kind"):
                    assert sentences[key][i] == getattr(sentence, key)
            objects = record["objects"]
            for i, item in enumerate(image.objects):
                for key in ("ann_id", "category_id", "category", "iscrowd", "same_category"):
                    assert objects[key][i] == getattr(item, key)
                np.testing.assert_array_equal(objects["bbox"][i], np.float32(item.bbox))
                assert objects["area"][i] == np.float32(item.area)
                rle = coco_mask.frPyObjects(
                    annotations[item.ann_id]["segmentation"], image.height, image.width
                )
                expected = coco_mask.decode(coco_mask.merge(rle))
                mask = masks.decode(objects["mask"][i], image.height, image.width)
                np.testing.assert_array_equal(mask, expected)


def test_tfds_reads_a_build_without_this_package(mini_built):
    # In a new interpreter that cannot import this package.
    path = mini_built / "tfds_refcoco/refcoco_unc/3.0.0"
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        f"builder = tfds.builder_from_directory({str(path)!r})\n"
        "record = builder.as_data_source('val')[0]\n"
        "assert record['image'].shape == (record['height'], record['width'], 3)\n"
        "assert record['sentences']['sent'][0] == b'blue shirt'\n"
        "assert not {'tfds_refcoco', 'tensorflow', 'jax'} & set(sys.modules)\n"
        f"assert tfds.builder('tfds_refcoco/refcoco_unc', data_dir={str(mini_built)!r}).info\n"
    )
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=60)


def test_shards_contain_every_record_once_in_order(raw_set, write_raw, tmp_path):
    whole = tfds_refcoco.build("refcoco_unc", tmp_path / "out", write_raw(), progress=False)
    builder = TfdsRefcoco(
        config="refcoco_unc", data_dir=tmp_path / "sharded", file_format="array_record"
    )
    config = tfds.download.DownloadConfig(
        manual_dir=tmp_path / "raw", try_download_gcs=False, num_shards=2
    )
    builder.download_and_prepare(download_config=config)
    assert builder.info.splits["train"].shard_lengths == [1, 1]
    assert builder.info.splits["val"].shard_lengths == [1]  # never more shards than records
    one = tfds.builder_from_directory(whole).as_data_source("train")
    two = tfds.builder_from_directory(builder.data_dir).as_data_source("train")
    assert [r["image_id"] for r in one] == [r["image_id"] for r in two] == [0, 1]


def test_splits_above_one_gigabyte_need_no_tensorflow(write_raw, tmp_path, monkeypatch):
    # The limit above which TFDS's writer spills records to disk through TensorFlow.
    monkeypatch.setattr("tensorflow_datasets.core.shuffle.MAX_MEM_BUFFER_SIZE", 0)
    tfds_refcoco.build("refcoco_unc", tmp_path / "out", write_raw(), progress=False)
    assert "tensorflow" not in sys.modules


def test_an_image_in_two_splits_is_stored_in_both(raw_set, write_raw, tmp_path):
    raw_set.refs[1]["split"] = "val"
    tfds_refcoco.build("refcoco_unc", tmp_path / "out", write_raw(), progress=False)
    built = tfds_refcoco.open_dataset(tmp_path / "out", "refcoco_unc")
    train, val = built.split("train").record(0), built.split("val").record(0)
    assert train["image"] == val["image"]
    assert (train["objects"]["ann_id"], val["objects"]["ann_id"]) == ([0], [1])
    assert val["sentences"]["ref_id"].tolist() == [1, 1]
    assert val["targets"]["object"].tolist() == [0, 0]


def test_same_raw_files_give_the_same_bytes(write_raw, tmp_path):
    raw = write_raw()
    paths = [
        tfds_refcoco.build("refcoco_unc", tmp_path / name, raw, progress=False) for name in "ab"
    ]
    first, second = (contents(path) for path in paths)
    assert first == second


def test_invalid_raw_data_keeps_the_existing_build(raw_set, write_raw, tmp_path):
    raw = write_raw()
    path = tfds_refcoco.build("refcoco_unc", tmp_path / "out", raw, progress=False)
    before = contents(path)
    instances = raw / "refcoco/instances.json"
    instances.write_text(instances.read_text().replace("[[2, 3,", "[[-999, 3,"))
    with pytest.raises(DataError, match="annotation id 0: segmentation"):
        tfds_refcoco.build("refcoco_unc", tmp_path / "out", raw, overwrite=True, progress=False)
    assert contents(path) == before
    assert not leftovers(tmp_path / "out")


def test_reuse_overwrite_and_repair(raw_set, write_raw, tmp_path, caplog):
    raw, out = write_raw(), tmp_path / "out"
    path = tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
    inode = path.stat().st_ino
    with caplog.at_level("INFO", "tfds_refcoco"):
        assert tfds_refcoco.build("refcoco_unc", out, raw) == path
    assert "already built" in caplog.text
    assert path.stat().st_ino == inode
    tfds_refcoco.build("refcoco_unc", out, raw, overwrite=True, progress=False)
    assert path.stat().st_ino != inode
    (path / "index/val.json").unlink()
    tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
    assert tfds_refcoco.open_dataset(out, "refcoco_unc").split("val").counts.sentences == 3
    assert not leftovers(out)


def test_a_build_from_other_files_is_not_reused(raw_set, write_raw, tmp_path):
    raw, out = write_raw(), tmp_path / "out"
    tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
    raw_set.refs[0]["sentences"][0]["sent"] = "other"
    (raw / "refcoco/refs(unc).p").write_bytes(pickle.dumps(raw_set.refs))
    with pytest.raises(DataError, match=r"was built from a different refs\(unc\)\.p; use the same"):
        tfds_refcoco.build("refcoco_unc", out, raw, progress=False)


def test_an_overwrite_that_fails_in_the_last_step(write_raw, tmp_path, monkeypatch):
    raw, out = write_raw(), tmp_path / "out"
    path = tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
    before, replace = contents(path), Path.replace

    def fail(self, target):
        if target == path and self.name != "replaced":
            raise OSError("no space left")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="no space left"):
        tfds_refcoco.build("refcoco_unc", out, raw, overwrite=True, progress=False)
    assert contents(path) == before and not leftovers(out)
    monkeypatch.undo()
    # Interrupted between the two renames.
    (out / ".building-refcoco_unc").mkdir()
    path.rename(out / ".building-refcoco_unc/replaced")
    assert tfds_refcoco.build("refcoco_unc", out, raw, progress=False) == path
    assert contents(path) == before and not leftovers(out)


def test_shapes_are_generated_and_their_raw_files_removed(write_raw, tmp_path, monkeypatch):
    def generate(raw_dir, *, seed=0, progress=True):
        raw_dir.mkdir()
        (raw_dir / "shapes").symlink_to(raw / "shapes")
        (raw_dir / "images").symlink_to(raw / "images")

    raw = write_raw(folder="shapes", images="images")
    monkeypatch.setattr("tfds_refcoco.shapes.generate", generate)
    path = tfds_refcoco.build("shapes", tmp_path / "out", progress=False)
    assert path.parent.name == "shapes"
    assert not leftovers(tmp_path / "out")
