"""Duplicate pictures within a dataset and between datasets, with different ids and names."""

import json

import numpy as np
import pytest
from PIL import Image

import tfds_refcoco
from tfds_refcoco.__main__ import main
from tfds_refcoco.inspection import check
from tfds_refcoco.inspection.findings import FAILED, NOTE, OK
from tfds_refcoco.records import pictures
from tfds_refcoco.records.imagelists import read_ids


def _entry(file, split, text="thing"):
    square = [[2, 3, 12, 3, 12, 11, 2, 11]]
    return {
        "file": file,
        "split": split,
        "objects": [{"mask": {"polygons": square}}],
        "sentences": [{"text": text, "objects": [0]}],
    }


@pytest.fixture
def own(tmp_path):
    """Writes a custom.json from pairs of file and split, and pictures a.png to d.png."""
    root = tmp_path / "own"
    root.mkdir()
    for i, name in enumerate("abcd"):
        pixels = np.random.default_rng(i).integers(0, 255, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{name}.png")

    def write(*entries):
        images = [_entry(*entry) for entry in entries]
        (root / "custom.json").write_text(json.dumps({"images": images}))
        return root

    return write


def _finding(out, what):
    return next(f for f in check.check_all(check.open_built(out)) if f.what == what)


def test_entries_of_one_picture_in_two_splits(own, tmp_path, capsys):
    """The builder numbers the entries, so ids differ, but the bytes are equal."""
    root = own(("a.png", "train"), ("b.png", "train"), ("a.png", "val"), ("c.png", "val"))
    command = ["build", "--dataset", "custom", "--raw", str(root), "--out", str(tmp_path / "out")]
    assert main(command) == 0
    named = "train and val share 1 images: a.png (image id 0) is a.png (image id 2)"
    assert f"WARNING: {named}" in capsys.readouterr().out
    finding = _finding(tmp_path / "out", "splits")
    assert (finding.status, finding.details) == (FAILED, (named,))
    assert main(["check", "--out", str(tmp_path / "out")]) == 1
    assert named in capsys.readouterr().out


def test_a_duplicate_picture_in_a_split(own, tmp_path):
    root = own(("a.png", "train"), ("b.png", "train"), ("a.png", "train"), ("c.png", "val"))
    tfds_refcoco.build("custom", tmp_path / "out", root, progress=False)
    assert _finding(tmp_path / "out", "splits").status == OK
    finding = _finding(tmp_path / "out", "pictures")
    assert finding.status == NOTE
    held = "a.png (image id 0), a.png (image id 2)"
    assert finding.details == (f"train: one picture in 2 records: {held}",)


def test_pictures_saved_again_under_other_ids_and_names(raw_set, write_raw, tmp_path, capsys):
    """Another dataset trains on a copy of val with new ids."""
    out = tmp_path / "out"
    raw = write_raw()
    tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
    copied = tmp_path / "copy"
    copied.mkdir()
    pictures = sorted((raw / "images/train2014").glob("*.jpg"))
    for i, picture in enumerate(pictures):
        (copied / f"photo{i}.jpg").write_bytes(picture.read_bytes())
    images = [_entry(f"photo{i}.jpg", "train") | {"id": 900 + i} for i in range(len(pictures))]
    (copied / "custom.json").write_text(json.dumps({"images": images}))
    tfds_refcoco.build("custom", out, copied, progress=False)
    finding = _finding(out, "refcoco_unc in train")
    assert finding.status == NOTE and finding.dataset == "custom"
    assert "1 held-out images are in train (val 1)" in finding.summary
    original = "COCO_train2014_000000000002.jpg (image id 2)"
    assert finding.details == (f"val: {original} is photo2.jpg (image id 902)",)
    # The list of training images excludes it.
    listed = tmp_path / "train.txt"
    command = ["check", "--out", str(out), "--leak-free", str(listed), "--train-of", "custom"]
    assert main(command) == 0
    assert read_ids(listed) == {900, 901}
    capsys.readouterr()


def test_other_pictures_with_the_same_ids_are_not_reported(raw_set, write_raw, own, tmp_path):
    out = tmp_path / "out"
    tfds_refcoco.build("refcoco_unc", out, write_raw(), progress=False)
    own_raw = own(("a.png", "train"), ("b.png", "train"), ("c.png", "train"), ("d.png", "val"))
    tfds_refcoco.build("custom", out, own_raw, progress=False)
    for what in ("refcoco_unc in train", "custom in train"):
        assert _finding(out, what).status == OK
    refcoco, custom = check.open_built(out)
    ids = pictures.image_ids(refcoco, ("val",)) & pictures.image_ids(custom, ("train",))
    assert ids == {2}
    assert pictures.leak_free(custom, [refcoco, custom], set())[0] == [0, 1, 2]
