"""gRefCOCO: sentences for several objects and without target."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

import tfds_refcoco
from tfds_refcoco.__main__ import main
from tfds_refcoco.errors import DataError
from tfds_refcoco.masks import decode
from tfds_refcoco.raw.read import read_raw
from tfds_refcoco.records.reader import sentence_mask


@pytest.fixture
def grefs(raw_set):
    """The refs of the synthetic dataset in gRefCOCO's format: two, one and no target."""
    raw_set.annotations[1]["segmentation"] = [[8, 5, 20, 5, 20, 20, 8, 20]]
    for ref in raw_set.refs:
        ref["ann_id"], ref["category_id"] = [ref["ann_id"]], [1]
        ref["no_target"] = False
    raw_set.refs[0]["ann_id"] = [1, 0]
    raw_set.refs[1] |= {"ann_id": [-1], "category_id": [-1], "no_target": True}
    return raw_set.refs


@pytest.fixture
def write_grefs(grefs, write_raw):
    def write():
        root = write_raw(folder="grefcoco")
        (root / "grefcoco/grefs(unc).json").write_text(json.dumps(grefs))
        return root

    return write


def test_records(write_grefs, tmp_path):
    tfds_refcoco.build("grefcoco_unc", tmp_path / "out", write_grefs(), progress=False)
    split = tfds_refcoco.open_dataset(tmp_path / "out", "grefcoco_unc").split("train")
    record = split.record(0)
    assert record["objects"]["ann_id"].tolist() == [1, 0]  # each once, in the order of first use
    assert record["sentences"]["ref_id"].tolist() == [0, 1, 1]
    targets = record["targets"]
    assert list(zip(targets["sentence"], targets["object"], strict=True)) == [(0, 0), (0, 1)]
    rles = [
        coco_mask.frPyObjects(polygons, 30, 40)[0]
        for polygons in ([[2, 3, 12, 3, 12, 11, 2, 11]], [[8, 5, 20, 5, 20, 20, 8, 20]])
    ]
    union = coco_mask.decode(coco_mask.merge(rles))
    assert union.max() == 1 and union.sum() < coco_mask.area(rles[0]) + coco_mask.area(rles[1])
    np.testing.assert_array_equal(decode(sentence_mask(record, 0), 30, 40), union)
    assert not decode(sentence_mask(record, 1), 30, 40).any()
    index = split.index
    assert index.targets[:3].tolist() == [2, 0, 0]
    assert index.area[:3].tolist() == [union.sum(), 0, 0]
    assert index.category[:3] == ["person", "", ""]
    assert index.same_category[:3].tolist() == [2, 0, 0]


def test_crowds_are_excluded_from_targets(raw_set, grefs, write_grefs, tmp_path, capsys):
    """As in gRefCOCO's loaders: for an object and a crowd, the object is the target."""
    raw_set.annotations[0] |= {
        "iscrowd": 1,
        "segmentation": {"size": [30, 40], "counts": [100, 50, 1050]},
    }
    grefs[2]["ann_id"] = [10]
    raw_set.annotations[2]["iscrowd"] = 1  # the only target of refs[2]
    raw_set.annotations[2]["segmentation"] = {"size": [30, 40], "counts": [100, 50, 1050]}
    raw = str(write_grefs())
    assert main(["build", "--dataset", "grefcoco_unc", "--raw", raw, "--out", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert "2 crowds were excluded from the targets" in printed
    assert "1 refs to crowds only were skipped" in printed
    split = tfds_refcoco.open_dataset(tmp_path, "grefcoco_unc").split("train")
    record = split.record(0)
    assert record["objects"]["ann_id"].tolist() == [1]
    assert record["objects"]["same_category"].tolist() == [1]  # crowds are not counted
    assert split.index.area[0] == 12 * 15 and split.index.targets[0] == 1
    assert 10 not in split.index.ref_id


def test_refs_without_sentences_and_integer_ids(grefs, write_grefs, tmp_path, capsys):
    """Published files contain such refs, which the authors skip, and integers instead of lists."""
    grefs[3] |= {"sentences": [], "sent_ids": []}
    grefs[0]["ann_id"] = 1
    grefs[1]["ann_id"] = -1
    raw = str(write_grefs())
    assert main(["build", "--dataset", "grefcoco_unc", "--raw", raw, "--out", str(tmp_path)]) == 0
    assert "1 refs without sentences were skipped" in capsys.readouterr().out
    built = tfds_refcoco.open_dataset(tmp_path, "grefcoco_unc")
    index = built.split("train").index
    assert index.targets.tolist() == [1, 0, 0, 1]
    build = json.loads((built.path / "build.json").read_text())
    assert build["notes"] == ["1 refs without sentences were skipped"]
    assert build["skipped"] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ann_id": "1"}, r"refs\[0\]\.ann_id: expected list, got str"),
        ({"ann_id": True}, r"refs\[0\]\.ann_id: expected int, got bool"),
        ({"ann_id": [1, "2"]}, r"refs\[0\]\.ann_id\[1\]: expected int, got str"),
        ({"ann_id": [1, 1]}, r"refs\[0\]\.ann_id: \[1, 1\] names an annotation twice"),
        ({"ann_id": [1, 77]}, r"refs\[0\]\.ann_id: 77 is not in"),
        ({"ann_id": [1, 20]}, r"refs\[0\]\.image_id: 0 differs from the image of ann_id 20"),
        ({"ann_id": [-1]}, r"refs\[0\]\.no_target: False contradicts ann_id \[\]"),
        ({"no_target": True}, r"refs\[0\]\.no_target: True contradicts ann_id \[1, 0\]"),
    ],
)
def test_invalid_refs(grefs, write_grefs, change, message):
    grefs[0].update(change)
    with pytest.raises(DataError, match=message):
        read_raw(write_grefs(), "grefcoco_unc")


def test_the_error_has_the_download_address(write_raw):
    with pytest.raises(DataError, match="henghuiding/gRefCOCO"):
        read_raw(write_raw(), "grefcoco_unc")
