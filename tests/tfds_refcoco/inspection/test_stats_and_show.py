"""Statistics compared with manual counts, and pictures of records."""

import json

import numpy as np
import pytest
from PIL import Image

import tfds_refcoco
from tfds_refcoco.__main__ import main
from tfds_refcoco.errors import DataError
from tfds_refcoco.inspection.show import draw_record
from tfds_refcoco.inspection.stats import describe
from tfds_refcoco.masks import decode
from tfds_refcoco.records.split import Split


@pytest.fixture
def out(raw_set, write_raw, tmp_path):
    raw_set.refs[4]["sentences"][0]["sent"] = "an unseen thing"
    raw_set.refs[5]["sentences"][0]["sent"] = " ".join(["thing"] * 18)
    tfds_refcoco.build("refcoco_unc", tmp_path / "out", write_raw(), progress=False)
    return tmp_path / "out"


def test_statistics(out):
    stats = describe(tfds_refcoco.open_dataset(out, "refcoco_unc"))
    train, val = stats["splits"].values()
    assert (train["images"], train["objects"], train["refs"], train["sentences"]) == (2, 4, 4, 6)
    assert (val["objects_per_image"], val["sentences_per_ref"]) == (2, 1.5)
    # train: "thing 000" and so on; val: 3, 18 and 2 words.
    assert train["lengths"] == {"2": 6} and val["lengths"] == {"2": 1, "3": 1, "18": 1}
    assert val["words"] | {"p95": 0} == {"mean": 23 / 3, "median": 3, "p95": 0, "max": 18}
    assert val["longer"] == {"15": 1 / 3, "20": 0}
    assert train["vocabulary"] == {"1": 7, "2": 1, "5": 1}
    assert stats["common"]["thing"] == 26
    # "an", "unseen" and "211" are not in train.
    assert val["unknown"] == {"words": 3 / 23, "sentences": 2 / 3}
    assert "unknown" not in train and val["targets"] == {"1": 3}


def test_commands(out, tmp_path, capsys):
    arguments = ["--out", str(out), "--dataset", "refcoco_unc"]
    assert main(["stats", *arguments]) == 0
    printed = capsys.readouterr().out
    assert "words that occur at least 2 times in train: 1" in printed and "33.33%" in printed
    assert main(["stats", *arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"] == "refcoco_unc"
    pictures = tmp_path / "pictures"
    show = ["show", "5", *arguments, "--split", "train", "--to", str(pictures)]
    assert main(show) == 0
    assert sorted(path.name for path in pictures.iterdir()) == [
        "refcoco_unc_train_00000_0.png",
        "refcoco_unc_train_00001_1.png",
    ]
    assert main([*show, "--image-id", "1"]) == 0
    assert capsys.readouterr().out.endswith("refcoco_unc_train_00001_1.png\n")
    assert main([*show, "--image-id", "2"]) == 1
    assert "refcoco_unc train has no image 2" in capsys.readouterr().err
    assert main(["show", "1", *arguments, "--split", "dev"]) == 1
    for number in ("0", "-3", "x"):
        with pytest.raises(SystemExit):
            main(["show", number, *arguments])


def test_show_continues_after_a_damaged_record(out, tmp_path, monkeypatch, capsys):
    read = Split.record

    def record(self, number):
        if number == 0:
            raise DataError("damaged.")
        return read(self, number)

    monkeypatch.setattr(Split, "record", record)
    flags = ["--dataset", "refcoco_unc", "--split", "train", "--to", str(tmp_path / "pictures")]
    assert main(["show", "--out", str(out), *flags]) == 1
    printed = capsys.readouterr()
    assert printed.out.endswith("refcoco_unc_train_00001_1.png\n")
    assert printed.err == "error: record 0: damaged.\n"


def test_a_picture(mini_refcoco, tmp_path):
    tfds_refcoco.build("refcoco_unc", tmp_path, mini_refcoco, progress=False)
    split = tfds_refcoco.open_dataset(tmp_path, "refcoco_unc").split("val")
    record = split.record(0)
    record["sentences"]["sent"][0] = "\u4eba on the left " * 20  # not in the font; wrapped
    picture = np.asarray(draw_record(record)).astype(int)
    h, w = record["height"], record["width"]
    lines = len(record["sentences"]["sent"])
    assert picture.shape[0] > h + 22 * (lines + 3) and picture.shape[1] == max(w, 640)
    with Image.open(mini_refcoco / "images/train2014" / record["file_name"]) as image:
        original = np.asarray(image.convert("RGB")).astype(int)
    changed = (picture[:h, :w] != original).any(axis=-1)
    mask = np.zeros((h, w), bool)
    for counts in record["objects"]["mask"]:
        mask |= decode(counts, h, w) > 0
    # The masks, and few other pixels: outlines and numbers.
    assert changed[mask].mean() > 0.95
    assert changed[~mask].mean() < 0.1
