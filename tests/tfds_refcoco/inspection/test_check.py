"""Every check fails when it should; overlaps of the published lists."""

import json
import re
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

import tfds_refcoco
from tfds_refcoco import masks
from tfds_refcoco.__main__ import main
from tfds_refcoco.errors import DataError
from tfds_refcoco.inspection import check, overlaps
from tfds_refcoco.inspection.findings import FAILED, NOTE, OK, SKIPPED
from tfds_refcoco.inspection.overlaps import find_pretrained
from tfds_refcoco.inspection.published import PUBLISHED
from tfds_refcoco.records.imagelists import read_ids, write_ids
from tfds_refcoco.records.record import features


@pytest.fixture
def out(write_raw, tmp_path):
    """A build whose only fault are its counts."""
    tfds_refcoco.build("refcoco_unc", tmp_path / "out", write_raw(), progress=False)
    return tmp_path / "out"


def _findings(out, what):
    found = {f.what: f for f in check.check_all(check.open_built(out))}
    return found[what]


def test_a_real_build_passes_all_but_the_counts(mini_refcoco, tmp_path, capsys):
    tfds_refcoco.build("refcoco_unc", tmp_path, mini_refcoco, progress=False)
    assert main(["check", "--out", str(tmp_path)]) == 1
    printed = capsys.readouterr().out
    assert printed.count("FAILED") == 1
    assert "val: 5 images, published are 1,500" in printed
    assert "12 decode to their size" in printed and "33 decode" in printed
    assert "pixels / area 0.998 to 1.001" in printed
    assert "96 sentences as in the records" in printed


def test_counts(out, monkeypatch):
    assert _findings(out, "counts").status == FAILED
    own = {"train": (2, 4, 6), "val": (1, 2, 3)}
    published = {split: type(PUBLISHED["refcoco_unc"]["val"])(*n) for split, n in own.items()}
    monkeypatch.setitem(PUBLISHED, "refcoco_unc", published)
    assert _findings(out, "counts").status == OK
    published["val"] = published["val"]._replace(sentences=4)
    finding = _findings(out, "counts")
    assert finding.details == ("val: 3 sentences, published are 4",)
    published["testA"] = published["val"]
    assert "testA: the split is missing" in _findings(out, "counts").details
    monkeypatch.delitem(PUBLISHED, "refcoco_unc")
    assert _findings(out, "counts").status == SKIPPED


def test_counts_of_a_part(write_raw, tmp_path):
    for name, options in (("a", {"max_images": 1}), ("b", {"splits": ("val",)})):
        raw = write_raw() if name == "a" else tmp_path / "raw"
        tfds_refcoco.build("refcoco_unc", tmp_path / name, raw, progress=False, **options)
    finding = _findings(tmp_path / "a", "counts")
    assert (finding.status, finding.summary) == (SKIPPED, "built with --max-images 1")
    details = _findings(tmp_path / "b", "counts").details
    assert details and all(text.startswith("val: ") for text in details)


def _rewrite(out, change, split="val"):
    """Changes the first record of a split and writes its shard anew."""
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
        ("images", lambda r: r.update(height=31), "decodes to 40x30, not to 40x31"),
        ("masks", _set("objects", 0, "mask", b"11"), "annotation id 20: RLE counts"),
        ("masks", _set("targets", 0, "object", 2), r"targets\.object names what is not there"),
        ("masks", _set("targets", 0, "sentence", -1), r"targets\.sentence names what is not"),
        ("areas", _set("objects", 1, "mask", EMPTY), "the mask has 0 pixels, its area is 80"),
        ("areas", _set("objects", 1, "area", 95.0), "the mask has 80 pixels, its area is 95"),
        ("areas", _set("objects", 1, "area", 0.0), "annotation id 21: its area is 0.0"),
        ("areas", _set("objects", 1, "area", float("nan")), "its area is nan"),
        ("index", _set("sentences", 2, "sent", "other"), "the index says otherwise"),
        ("index", _set("sentences", 2, "kind", "other"), "the index says otherwise"),
        ("index", _set("sentences", 2, "ref_id", 7), "the index says otherwise"),
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
            "image id 1: the index says otherwise than the record",
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
    assert re.search(r"val: .* cannot be .* \(.*\); build again with --overwrite", printed)


def test_no_record_can_be_read(out, capsys):
    for shard in (out / "tfds_refcoco/refcoco_unc/3.0.0").glob("*.array_record-*"):
        shard.write_bytes(b"")
    assert main(["check", "--out", str(out)]) == 1
    printed = capsys.readouterr().out
    assert re.search(r"FAILED +refcoco_unc +records +3 faults", printed)
    assert "share no image" in printed  # of the index, which is as it was


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
    assert "0 decode, every target is there" in capsys.readouterr().out


def test_a_list_that_cannot_be_written_is_not_half_written(tmp_path, monkeypatch):
    path = tmp_path / "ids.txt"
    write_ids(path, [1], [])

    def full(self, text, **_):
        with self.open("w") as file:
            file.write(text[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match=r"No space left.*ids\.txt"):
        write_ids(path, range(1000), [])
    assert read_ids(path) == {1}
    assert [file.name for file in tmp_path.iterdir()] == ["ids.txt"]


def test_a_list_made_of_parts_says_so(write_raw, tmp_path, capsys):
    out = tmp_path / "out"
    tfds_refcoco.build("refcoco_unc", out, write_raw(), progress=False, max_images=1)
    listed = tmp_path / "train.txt"
    command = ["check", "--out", str(out), "--leak-free", str(listed)]
    assert main([*command, "--train-of", "refcoco_unc"]) == 0
    assert "WARNING: refcoco_unc was built in part" in capsys.readouterr().err
    assert "# refcoco_unc was built in part" in listed.read_text()


def test_areas_of_real_annotations(test_data):
    """None of COCO's own is far off by the bounds of the check, but for crowds."""
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


def test_overlaps_between_sets_and_a_train_list_without_them(raw_set, write_raw, tmp_path, capsys):
    raw, out = write_raw(), tmp_path / "out"
    tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
    for ref in raw_set.refs:  # image 0 is held out there, and image 2 is trained on
        ref["split"] = {"val": "train"}.get(
            ref["split"], "val" if ref["image_id"] == 0 else "train"
        )
    raw_set.write(tmp_path / "raw2", folder="refcocoplus")
    tfds_refcoco.build("refcocoplus_unc", out, tmp_path / "raw2", progress=False)
    main(["check", "--out", str(out)])
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert [line.split()[1] for line in notes] == ["refcocoplus_unc", "refcoco_unc"]
    assert all("1 images held out there are trained on (val 1)" in line for line in notes)

    listed = tmp_path / "lists/train.txt"
    command = ["check", "--out", str(out), "--leak-free", str(listed)]
    assert main([*command, "--train-of", "refcocoplus_unc"]) == 0
    assert read_ids(listed) == {1}
    assert listed.read_text().startswith("# train of refcocoplus_unc without what is held out by")
    for wrong in ([], ["--dataset", "refcoco_unc", "--train-of", "refcoco_unc"]):
        assert main([*command, *wrong]) == 1
    assert main([*command[:3], "--train-of", "refcoco_unc"]) == 1
    assert "they go with --leak-free" in capsys.readouterr().err
    assert main([*command, "--train-of", "refcocoplus_unc"]) == 0
    assert "1 of 2 images of refcocoplus_unc train" in capsys.readouterr().out
    held = tmp_path / "held.txt"
    write_ids(held, [1], ["more"])
    assert main([*command, "--train-of", "refcocoplus_unc", "--held-out", str(held)]) == 1
    assert "every image of train is held out" in capsys.readouterr().err


def test_published_lists(test_data, monkeypatch):
    """1,860 of RefCOCO's val and test images are in train of RefCOCOg (umd)."""
    folder = test_data / "splits"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    lists = {path.stem: read_ids(path) for path in folder.glob("*.txt")}
    for name, split in (("refcocog_umd", "train"), ("refcoco_unc", "val")):
        assert len(lists[f"{name}_{split}"]) == PUBLISHED[name][split].images

    class FromLists:
        def __init__(self, name):
            self.name, self.path = name, folder
            self.splits = [key[len(name) + 1 :] for key in lists if key.startswith(name)]

        def split(self, name):
            ids = np.array(sorted(lists[f"{self.name}_{name}"]))
            columns = {"image_id": ids, "picture": -1 - ids, "record": np.arange(len(ids))}
            record = {"file_name": "photo.jpg", "image_id": -1}
            index = type("Index", (), columns)
            return type("Split", (), {"index": index, "record": lambda number: record})

    refcoco, refcocog = FromLists("refcoco_unc"), FromLists("refcocog_umd")
    finding = overlaps.find_overlap(refcoco, refcocog)
    assert finding.status == NOTE and finding.summary.startswith("1,860 images held out there")
    assert "(val 918, testA 454, testB 488)" in finding.summary
    monkeypatch.setattr(
        overlaps,
        "read_build",
        lambda _: {"options": {"splits": [], "max_images": 0}, "skipped": []},
    )
    kept, doubts = overlaps.leak_free(refcocog, [refcoco, refcocog], set())
    assert len(kept) == 21_899 - 1_860 and not doubts
    everything = lists["val_test_union"]
    assert not everything & set(overlaps.leak_free(refcocog, [refcoco], everything)[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\nx2\n", "line 2: 'x2' is no image id"),
        (b"-1\n", "line 1: '-1' is no image id"),
        (b"# nothing\n\n", "no image id is in it"),
        (b"\xff\n", "cannot be read"),
    ],
)
def test_faulty_lists(tmp_path, content, message):
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_ids(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_ids(tmp_path / "absent")


def test_nothing_built(tmp_path, capsys):
    assert main(["check", "--out", str(tmp_path)]) == 1
    assert "no data set is built under" in capsys.readouterr().err


def test_sets_whose_val_published_backbones_have_seen():
    (finding,) = find_pretrained(types.SimpleNamespace(name="refcocog_google"))
    assert finding.status == NOTE and "not 3,564 of the 4,650" in finding.summary
    assert list(find_pretrained(types.SimpleNamespace(name="refcocog_umd"))) == []
