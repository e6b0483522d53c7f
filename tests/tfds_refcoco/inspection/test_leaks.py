"""Images that one dataset holds out and another trains on; lists of images."""

import types
from pathlib import Path

import numpy as np
import pytest

import tfds_refcoco
from tfds_refcoco.__main__ import main
from tfds_refcoco.errors import DataError
from tfds_refcoco.inspection import overlaps
from tfds_refcoco.inspection.findings import NOTE
from tfds_refcoco.inspection.overlaps import find_pretrained
from tfds_refcoco.inspection.published import PUBLISHED
from tfds_refcoco.records import pictures
from tfds_refcoco.records.imagelists import read_ids, write_ids


def test_a_list_is_written_atomically(tmp_path, monkeypatch):
    path = tmp_path / "ids.txt"
    write_ids(path, [1], [])

    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match=r"No space left.*ids\.txt"):
        write_ids(path, range(1000), [])
    assert read_ids(path) == {1}
    assert [file.name for file in tmp_path.iterdir()] == ["ids.txt"]


def test_a_list_from_partial_builds_has_a_note(write_raw, tmp_path, capsys):
    out = tmp_path / "out"
    tfds_refcoco.build("refcoco_unc", out, write_raw(), progress=False, max_images=1)
    listed = tmp_path / "train.txt"
    command = ["check", "--out", str(out), "--leak-free", str(listed)]
    assert main([*command, "--train-of", "refcoco_unc"]) == 0
    assert "WARNING: refcoco_unc is a partial build" in capsys.readouterr().err
    assert "# refcoco_unc is a partial build" in listed.read_text()


def test_overlaps_between_sets_and_a_train_list_without_them(raw_set, write_raw, tmp_path, capsys):
    raw, out = write_raw(), tmp_path / "out"
    tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
    for ref in raw_set.refs:  # image 0 is held out, and image 2 is a training image
        ref["split"] = {"val": "train"}.get(
            ref["split"], "val" if ref["image_id"] == 0 else "train"
        )
    raw_set.write(tmp_path / "raw2", folder="refcocoplus")
    tfds_refcoco.build("refcocoplus_unc", out, tmp_path / "raw2", progress=False)
    main(["check", "--out", str(out)])
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note")]
    assert [line.split()[1] for line in notes] == ["refcocoplus_unc", "refcoco_unc"]
    assert all("1 held-out images are in train (val 1)" in line for line in notes)

    listed = tmp_path / "lists/train.txt"
    command = ["check", "--out", str(out), "--leak-free", str(listed)]
    assert main([*command, "--train-of", "refcocoplus_unc"]) == 0
    assert read_ids(listed) == {1}
    assert listed.read_text().startswith(
        "# train split of refcocoplus_unc without images held out by"
    )
    for wrong in ([], ["--dataset", "refcoco_unc", "--train-of", "refcoco_unc"]):
        assert main([*command, *wrong]) == 1
    assert main([*command[:3], "--train-of", "refcoco_unc"]) == 1
    assert "these flags require --leak-free" in capsys.readouterr().err
    assert main([*command, "--train-of", "refcocoplus_unc"]) == 0
    assert "1 of the 2 image ids of refcocoplus_unc train" in capsys.readouterr().out
    held = tmp_path / "held.txt"
    write_ids(held, [1], ["more"])
    assert main([*command, "--train-of", "refcocoplus_unc", "--held-out", str(held)]) == 1
    assert "every image of train is held out" in capsys.readouterr().err


def test_published_lists(test_data, monkeypatch):
    """1,860 of RefCOCO's val and test images are in RefCOCOg's train split (umd)."""
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
    assert finding.status == NOTE and finding.summary.startswith(
        "1,860 held-out images are in train"
    )
    assert "(val 918, testA 454, testB 488)" in finding.summary
    monkeypatch.setattr(
        pictures,
        "read_build",
        lambda _: {"options": {"splits": [], "max_images": 0}, "notes": [], "skipped": []},
    )
    kept, doubts = pictures.leak_free(refcocog, [refcoco, refcocog], set())
    assert len(kept) == 21_899 - 1_860 and not doubts
    rows = pictures.held_out_rows([refcoco, refcocog], "train")
    assert rows["refcocog_umd"].sum() == 1_860 and not rows["refcoco_unc"].any()
    everything = lists["val_test_union"]
    assert not everything & set(pictures.leak_free(refcocog, [refcoco], everything)[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1\nx2\n", "line 2: 'x2' is not an image id"),
        (b"-1\n", "line 1: '-1' is not an image id"),
        (b"# nothing\n\n", "contains no image ids"),
        (b"\xff\n", "cannot be read"),
    ],
)
def test_invalid_lists(tmp_path, content, message):
    path = tmp_path / "ids.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_ids(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_ids(tmp_path / "absent")


def test_sets_whose_val_published_backbones_have_seen():
    (finding,) = find_pretrained(types.SimpleNamespace(name="refcocog_google"))
    assert finding.status == NOTE and "not 3,564 of this dataset's 4,650" in finding.summary
    assert list(find_pretrained(types.SimpleNamespace(name="refcocog_umd"))) == []
