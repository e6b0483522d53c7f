"""Joint datasets: excluded pictures, and the sentences."""

import json
import pickle

import numpy as np
import pytest

import tfds_refcoco
from tfds_refcoco import DataError
from tfds_refcoco.records.joint import Kept, open_datasets
from tfds_refcoco.records.pictures import held_out_rows, leak_free

BOX = [[2, 3, 12, 3, 12, 11, 2, 11]]


@pytest.fixture
def two(raw_set, tmp_path):
    """Builds two datasets that share pictures.

    refcoco_unc has train 0, 1 and val 2 with three sentences per picture. custom has train 2, 1, 9
    and val 0 under other names, with one sentence per picture.
    """
    raw, out = raw_set.write(tmp_path / "raw"), tmp_path / "data"
    photos = raw / "images" / "train2014"
    mine = tmp_path / "mine"
    mine.mkdir()
    images = []
    for number, split in ((2, "train"), (1, "train"), (9, "train"), (0, "val")):
        name = f"{number}.jpg"
        if number == 9:
            whole = (photos / "COCO_train2014_000000000001.jpg").read_bytes()
            (mine / name).write_bytes(whole[:-2] + b"\xff\xfe\x00\x04hi\xff\xd9")  # a comment
        else:
            (mine / name).write_bytes((photos / f"COCO_train2014_{number:012d}.jpg").read_bytes())
        images.append(
            {
                "file": name,
                "split": split,
                "objects": [{"mask": {"polygons": BOX}, "category": "thing"}],
                "sentences": [{"text": f"thing {number}", "objects": [0]}],
            }
        )
    (mine / "custom.json").write_text(json.dumps({"images": images}))
    tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
    tfds_refcoco.build("custom", out, mine, progress=False)
    return out


def test_held_out_pictures_are_excluded_from_training(two):
    joint = open_datasets(two, "refcoco_unc+custom")
    train = joint.split("train")
    names = [train.record(int(n))["file_name"] for n in np.unique(train.index.record)]
    assert names == ["COCO_train2014_000000000001.jpg", "1.jpg", "9.jpg"]
    assert train.names == ("refcoco_unc/train", "custom/train")
    assert joint.kept == {
        "refcoco_unc": Kept(1, 3, 1, 3, 0),
        "custom": Kept(2, 2, 1, 1, 0),
    }
    assert train.counts.sentences == len(train.index) == 5
    assert train.counts.images == 2  # the shared picture counts once


def test_held_out_pictures_on_demand(two):
    joint = open_datasets(two, "refcoco_unc+custom", allow_leaks=True)
    assert joint.split("train").counts.images == 4
    assert joint.kept == {"refcoco_unc": Kept(2, 6, 0, 0, 1), "custom": Kept(3, 3, 0, 0, 1)}


def test_rows_equal_those_of_the_datasets(two):
    joint = open_datasets(two, "custom+refcoco_unc")
    train = joint.split("train")
    index = train.index
    assert train.dataset.tolist() == [0, 0, 1, 1, 1]
    assert [train.datasets[i] for i in (0, 1)] == ["custom", "refcoco_unc"]
    own = tfds_refcoco.open_dataset(two, "refcoco_unc").split("train").index
    assert index.text[2:] == own.text[3:]
    np.testing.assert_array_equal(index.sent_id[2:], own.sent_id[3:])
    # Objects of different datasets are distinct, even with the same ids.
    assert len(set(index.ref_id[:2]) | set(index.ref_id[2:])) == 2 + len(set(own.ref_id[3:]))
    # Picture 1 is one image, with sentences of both datasets.
    assert train.image.tolist() == [1, 2, 1, 1, 1]
    again = pickle.loads(pickle.dumps(train))
    assert again.index.text == index.text and again.names == train.names


def test_other_splits_are_prefixed_with_their_dataset(two):
    joint = open_datasets(two, "refcoco_unc+custom")
    assert joint.splits == (
        "refcoco_unc/train",
        "refcoco_unc/val",
        "custom/train",
        "custom/val",
    )
    assert joint.split("custom/val").index.text == ["thing 0"]
    assert joint.split("custom/val + custom/train").counts.sentences == 4
    for name, message in (
        (
            "val",
            r"no split 'val'; available are train \(joint\), refcoco_unc/train, refcoco_unc/val",
        ),
        ("custom/test", "has no split 'custom/test'"),
        ("custom/val+custom/val", "names a split twice"),
        ("custom/val+refcoco_unc/val", "names splits of several datasets, whose ids may collide"),
    ):
        with pytest.raises(DataError, match=message):
            joint.split(name)
    with pytest.raises(DataError, match="names a dataset twice"):
        open_datasets(two, "custom+custom")
    with pytest.raises(DataError, match="shapes is not built"):
        open_datasets(two, "custom+shapes")


def test_a_dataset_without_remaining_images(two):
    with pytest.raises(DataError, match="refcoco_unc: every image of val is held out by one of"):
        open_datasets(two, "refcoco_unc+custom", "val").split("val")
    joint = open_datasets(two, "refcoco_unc+custom", "val", allow_leaks=True)
    assert joint.split("val").counts.images == 2
    assert [kept.leaked_images for kept in joint.kept.values()] == [1, 1]


def test_pictures_excluded_by_id_are_excluded_by_bytes(two, raw_set, tmp_path):
    """refcocoplus contains a held-out picture with the same id, and custom the same file."""
    for ref in raw_set.refs:
        ref["split"] = "val" if ref["image_id"] == 1 else "train"
    raw = raw_set.write(tmp_path / "raw2", folder="refcoco+")
    photo = raw / "images" / "train2014" / "COCO_train2014_000000000002.jpg"
    photo.write_bytes(photo.read_bytes()[:-2] + b"\xff\xfe\x00\x04me\xff\xd9")
    tfds_refcoco.build("refcocoplus_unc", two, raw, progress=False)
    mine = tmp_path / "mine"
    (mine / "2.jpg").write_bytes(photo.read_bytes())
    tfds_refcoco.build("custom", two, mine, overwrite=True, progress=False)
    custom, refcoco, plus = (
        tfds_refcoco.open_dataset(two, name)
        for name in ("custom", "refcoco_unc", "refcocoplus_unc")
    )
    assert custom.split("train").index.text == ["thing 2", "thing 1", "thing 9"]
    held_out = held_out_rows([custom, refcoco], "train")
    assert held_out["custom"].tolist() == [False] * 3
    held_out = held_out_rows([custom, refcoco, plus], "train")
    assert held_out["custom"].tolist() == [True, True, False]
    assert held_out["refcocoplus_unc"].all()
    # The same holds for a list of training images, which has the ids of its dataset.
    assert leak_free(custom, [refcoco])[0] == [0, 1, 2]
    assert leak_free(custom, [refcoco, plus])[0] == [2]
    assert leak_free(custom, [refcoco], {0, 7})[0] == [1, 2]
    with pytest.raises(DataError, match="refcocoplus_unc: every image of train is held out"):
        leak_free(plus, [refcoco, custom])


def test_a_dataset_without_train_split_holds_out_all_images(two, raw_set, tmp_path):
    for ref in raw_set.refs:
        ref["split"] = "testA" if ref["image_id"] == 1 else "val"
    raw = raw_set.write(tmp_path / "raw2", folder="refcoco+")
    tfds_refcoco.build("refcocoplus_unc", two, raw, progress=False)
    custom, plus = (tfds_refcoco.open_dataset(two, name) for name in ("custom", "refcocoplus_unc"))
    assert list(held_out_rows([custom, plus], "train")) == ["custom"]
    assert leak_free(custom, [plus])[0] == [2]
    with pytest.raises(DataError, match="refcocoplus_unc has no split 'train'"):
        open_datasets(two, "custom+refcocoplus_unc").split("train")


def test_a_partial_build_is_reported(raw_set, tmp_path):
    raw, out = raw_set.write(tmp_path / "raw"), tmp_path / "data"
    raw_set.write(tmp_path / "raw2", folder="refcoco+")
    tfds_refcoco.build("refcoco_unc", out, raw, splits=("train",), progress=False)
    tfds_refcoco.build("refcocoplus_unc", out, tmp_path / "raw2", progress=False)
    joint = open_datasets(out, "refcoco_unc+refcocoplus_unc")
    assert joint.doubts == ["refcoco_unc is a partial build: it may hold out more images"]


def test_copies_and_views_are_reported(two, tmp_path):
    """A mirror image of a held-out picture has different bytes."""
    content = json.loads((tmp_path / "mine/custom.json").read_text())
    (tmp_path / "mine/copies/views").mkdir(parents=True)
    row = content["images"][0]
    (tmp_path / "mine" / row["file"]).rename(tmp_path / "mine/copies/views/2_1.jpg")
    row["file"] = "copies/views/2_1.jpg"
    (tmp_path / "mine/custom.json").write_text(json.dumps(content))
    tfds_refcoco.build("custom", two, tmp_path / "mine", overwrite=True, progress=False)
    (doubt,) = open_datasets(two, "refcoco_unc+custom").doubts
    assert doubt.startswith("custom: 1 images are copies or views: overlaps with other datasets")
