"""Tests that every check detects its faults."""

import json
import re

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

import tfds_refcoco
from tfds_refcoco import masks
from tfds_refcoco.__main__ import main
from tfds_refcoco.inspection import check
from tfds_refcoco.inspection.findings import FAILED, OK, SKIPPED
from tfds_refcoco.inspection.published import PUBLISHED
from tfds_refcoco.records.record import features


@pytest.fixture
def out(write_raw, tmp_path):
    """A build that is valid except for its counts."""
    tfds_refcoco.build("refcoco_unc", tmp_path / "out", write_raw(), progress=False)
    return tmp_path / "out"


def _findings(out, what):
    findings = {f.what: f for f in check.check_all(check.open_built(out))}
    return findings[what]


def test_a_real_build_passes_all_but_the_counts(mini_refcoco, tmp_path, capsys):
    tfds_refcoco.build("refcoco_unc", tmp_path, mini_refcoco, progress=False)
    assert main(["check", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert printed.count("FAILED") == 1
    assert "val: 5 images, but 1,500 are published" in printed
    assert "12 decode to their size" in printed and "33 decode" in printed
    assert "pixels / area 0.998 to 1.001" in printed
    assert "96 sentences match the records" in printed


def test_counts(out, monkeypatch):
    assert _findings(out, "counts").status == FAILED
    own = {"train": (2, 4, 6), "val": (1, 2, 3)}
    published = {split: type(PUBLISHED["refcoco_unc"]["val"])(*n) for split, n in own.items()}
    monkeypatch.setitem(PUBLISHED, "refcoco_unc", published)
    assert _findings(out, "counts").status == OK
    published["val"] = published["val"]._replace(sentences=4)
    finding = _findings(out, "counts")
    assert finding.details == ("val: 3 sentences, but 4 are published",)
    published["testA"] = published["val"]
    assert "testA: the split is missing" in _findings(out, "counts").details
    monkeypatch.delitem(PUBLISHED, "refcoco_unc")
    assert _findings(out, "counts").status == SKIPPED


def test_counts_of_a_partial_build(write_raw, tmp_path):
    for name, options in (("a", {"max_images": 1}), ("b", {"splits": ("val",)})):
        raw = write_raw() if name == "a" else tmp_path / "raw"
        tfds_refcoco.build("refcoco_unc", tmp_path / name, raw, progress=False, **options)
    finding = _findings(tmp_path / "a", "counts")
    assert (finding.status, finding.summary) == (SKIPPED, "built with --max-images 1")
    details = _findings(tmp_path / "b", "counts").details
    assert details and all(text.startswith("val: ") for text in details)


def _rewrite(out, change, split="val"):
    """Changes the first record of a split and rewrites its shard."""
    path = out / "tfds_refcoco/refcoco_unc/3.0.0"
    source = tfds.builder_from_directory(path).as_data_source(
        split, decoders={"image": tfds.decode.SkipDecoding()}
    )
    records = []
    for record in source:
        for name in ("objects", "sentences", "targets"):
            columns = record[name]
            rows = zip(*columns.values(), strict=True)
            record[name] = [dict(zip(columns, row, strict=True)) for row in rows]
        records.append(record)
    change(records[0])
    (shard,) = path.glob(f"tfds_refcoco-{split}.array_record-*")
    writer = ArrayRecordWriter(str(shard), "group_size:1")
    for record in records:
        writer.write(features().serialize_example(record))
    writer.close()


def _set(name, row, field, value):
    def change(record):
        record[name][row][field] = value

    return change


EMPTY = masks.encode(np.zeros((30, 40), np.uint8))


@pytest.mark.parametrize(
    ("what", "change", "message"),
    [
        ("images", lambda r: r.update(image=r["image"][:-200]), r"does not decode \(.*trunc"),
        ("images", lambda r: r.update(height=31), "decodes to 40x30, expected 40x31"),
        ("masks", _set("objects", 0, "mask", b"11"), "annotation id 20: RLE counts"),
        ("masks", _set("targets", 0, "object", 2), r"targets\.object is out of range"),
        ("masks", _set("targets", 0, "sentence", -1), r"targets\.sentence is out of range"),
        ("areas", _set("objects", 1, "mask", EMPTY), "the mask has 0 pixels, but the area is 80"),
        ("areas", _set("objects", 1, "area", 95.0), "the mask has 80 pixels, but the area is 95"),
        ("areas", _set("objects", 1, "area", 0.0), "annotation id 21: its area is 0.0"),
        ("areas", _set("objects", 1, "area", float("nan")), "its area is nan"),
        ("index", _set("sentences", 2, "sent", "other"), "the index differs"),
        ("index", _set("sentences", 2, "kind", "other"), "the index differs"),
        ("index", _set("sentences", 2, "ref_id", 7), "the index differs"),
    ],
)
def test_damaged_records(out, what, change, message):
    assert _findings(out, what).status == OK
    _rewrite(out, change)
    finding = _findings(out, what)
    assert finding.status == FAILED
    assert re.search(rf"^val: image id 2.*{message}", finding.details[0]), finding.details


def _add_row(content):
    for name, column in content.items():
        if isinstance(column, list) and name != "area_ratio":
            column.append(99 if name == "record" else column[-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["area"].__setitem__(4, 81),
            "image id 1: the index differs from the record",
        ),
        (_add_row, "sentences: (2, 4, 4, 7) in the index, (2, 4, 4, 6) in the records"),
        (lambda c: c.update(refs=77), "(2, 4, 77, 6) in the index, (2, 4, 4, 6) in the records"),
        (lambda c: c.update(objects=5), "(2, 5, 4, 6) in the index, (2, 4, 4, 6) in the records"),
    ],
)
def test_a_damaged_index(out, change, message):
    path = out / "tfds_refcoco/refcoco_unc/3.0.0/index/train.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    (detail,) = _findings(out, "index").details
    assert detail.startswith("train: ") and detail.endswith(message)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:100] + bytes(b ^ 255 for b in data[100:110]) + data[110:],
        lambda data: b"",
    ],
)
def test_a_damaged_shard(out, damage, capsys):
    (shard,) = (out / "tfds_refcoco/refcoco_unc/3.0.0").glob("*-val.array_record-*")
    shard.write_bytes(damage(shard.read_bytes()))
    assert main(["check", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"FAILED +refcoco_unc +records", printed)
    assert re.search(r"val: .* cannot be .* \(.*\); rebuild with --overwrite", printed)


def test_no_record_can_be_read(out, capsys):
    for shard in (out / "tfds_refcoco/refcoco_unc/3.0.0").glob("*.array_record-*"):
        shard.write_bytes(b"")
    assert main(["check", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"FAILED +refcoco_unc +records +3 faults", printed)
    assert "share no image" in printed  # from the unchanged index


def test_no_index_can_be_read(out, capsys):
    for file in (out / "tfds_refcoco/refcoco_unc/3.0.0/index").glob("*.json"):
        file.write_text("{")
    assert main(["check", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    for what in ("counts", "records", "splits", "pictures"):
        assert re.search(rf"FAILED +refcoco_unc +{what} ", printed), what


def test_no_sentence_has_a_target(tmp_path, capsys):
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    sentences = [{"text": "nothing here", "objects": []}]
    row = {"file": "a.png", "split": "val", "objects": [], "sentences": sentences}
    (tmp_path / "custom.json").write_text(json.dumps({"images": [row]}))
    tfds_refcoco.build("custom", tmp_path / "out", tmp_path, progress=False)
    assert main(["check", "--out", str(tmp_path / "out")]) == 0
    assert "0 decode, all targets exist" in capsys.readouterr().out


def test_areas_of_real_annotations(test_data):
    """COCO's annotations are within the bounds of the check, except for crowds."""
    path = test_data / "coco_photos/instances.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    content = json.loads(path.read_text())
    images = {row["id"]: row for row in content["images"]}
    for row in content["annotations"]:
        if not row["iscrowd"]:
            size = images[row["image_id"]]["height"], images[row["image_id"]]["width"]
            pixels = masks.area(masks.from_segmentation(row["segmentation"], *size), *size)
            bound = check.AREA_SHARE * row["area"] + check.AREA_PIXELS
            assert abs(pixels - row["area"]) <= bound


def test_splits_that_share_an_image(raw_set, write_raw, tmp_path):
    raw_set.refs[1]["split"] = "val"
    raw = write_raw()
    (raw / "refcoco/refs(google).p").write_bytes((raw / "refcoco/refs(unc).p").read_bytes())
    for name, status in (("refcoco_unc", FAILED), ("refcoco_google", SKIPPED)):
        tfds_refcoco.build(name, tmp_path / name, raw, progress=False)
        finding = _findings(tmp_path / name, "splits")
        assert finding.status == status
        name = "COCO_train2014_000000000000.jpg (image id 0)"
        assert finding.details == (f"train and val share 1 images: {name}",)


def test_no_dataset_is_built(tmp_path, capsys):
    assert main(["check", "--out", str(tmp_path)]) == 1
    assert "no dataset is built under" in capsys.readouterr().err
