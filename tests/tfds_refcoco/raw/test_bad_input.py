"""Invalid items: each stops the build with an error, or is skipped and listed."""

import json
import os
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tfds_refcoco
from tfds_refcoco.__main__ import main
from tfds_refcoco.errors import DataError

NAME = "COCO_train2014_{:012d}.jpg"


def _picture(root, number) -> Path:
    return root / "images/train2014" / NAME.format(number)


def _truncate(root):
    path = _picture(root, 0)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])


def _dangle(root):
    _picture(root, 0).unlink()
    _picture(root, 0).symlink_to(root / "nowhere")


def _save(mode, size=(40, 30), kind="JPEG"):
    return lambda root: Image.new(mode, size).save(_picture(root, 0), kind)


def _annotation(**changes):
    def change(root):
        path = root / "refcoco/instances.json"
        content = json.loads(path.read_text())
        content["annotations"][0].update(changes)
        path.write_text(json.dumps(content))

    return change


def _ref(**changes):
    return lambda made: made.refs[0].update(changes)


# The fault, in the refs before writing or in the files after writing; its message; the remaining
# refs of images 0 and 1, which originally have ref 0 with one sentence and ref 1 with two.
FAULTS = {
    "missing": (lambda root: _picture(root, 0).unlink(), "images named in .* are missing", 3),
    "truncated": (_truncate, "damaged .*truncated.*; download it again", 3),
    "empty": (lambda root: _picture(root, 0).write_bytes(b""), "not a readable JPEG", 3),
    "size": (_save("RGB", (41, 30)), "is 41x30 pixels, but .* has 40x30", 3),
    "cmyk": (_save("CMYK"), "expected 8-bit RGB or gray, got mode CMYK; convert it", 3),
    "png": (_save("RGB", kind="PNG"), "expected JPEG, got PNG", 3),
    "dangling link": (_dangle, "cannot be read .No such file", 3),
    "no pixel": (
        _annotation(segmentation=[[-30, 3, -12, 3, -12, 11]]),
        "contains no pixel of the image",
        5,
    ),
    "no area": (_annotation(area=1e-60), r"annotations\[0\]\.area: 1e-60 is not a positive", 5),
    "two points": (
        _annotation(segmentation=[[1, 2, 3, 4]]),
        r"segmentation\[0\]: expected x, y pairs of at least three points",
        5,
    ),
    "odd": (_annotation(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), "x, y pairs of at least", 5),
    "no polygon": (_annotation(segmentation=[]), "expected a non-empty list", 5),
    "nan": (
        _annotation(segmentation=[[1, 2, 3, float("nan"), 5, 6]]),
        "a coordinate is not a finite number",
        5,
    ),
    "outside": (
        _annotation(segmentation=[[1, 2, 3, 4, 5, 600]]),
        "is far outside the 40x30 image",
        5,
    ),
    "rle size": (
        _annotation(segmentation={"size": [40, 30], "counts": [1200]}),
        r"segmentation\.size: expected \[h, w\] = \[30, 40\], got \[40, 30\]",
        5,
    ),
    "rle length": (
        _annotation(segmentation={"size": [30, 40], "counts": [1199]}),
        "the runs cover 1199 pixels, but the 40x30 image has 1200",
        5,
    ),
    "rle text": (
        _annotation(segmentation={"size": [30, 40], "counts": "é"}),
        "not an RLE string",
        5,
    ),
    "crowd": (
        _annotation(iscrowd=1, segmentation={"size": [30, 40], "counts": [0, 1200]}),
        r"annotations\[0\]\.iscrowd: .*refs\[0\] refers to annotation id 0, which is a crowd",
        5,
    ),
    "absent annotation": (_ref(ann_id=77), r"refs\[0\]\.ann_id: 77 is not in", 5),
    "duplicate ref": (_ref(ref_id=1), r"refs\[1\]\.ref_id: 1 appears twice", 4),
    "empty sentence": (
        lambda made: made.refs[1]["sentences"][0].update(sent=" \t"),
        r"refs\[1\]\.sentences\[0\]\.sent: the sentence is empty",
        5,
    ),
    "surrogate": (
        lambda made: made.refs[1]["sentences"][0].update(sent="\udc80"),
        r"refs\[1\]\.sentences\[0\]\.sent: .* is not valid Unicode text",
        5,
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_invalid_item(raw_set, write_raw, tmp_path, capsys, fault):
    change, message, left = FAULTS[fault]
    if fault in ("absent annotation", "duplicate ref", "empty sentence", "surrogate"):
        change(raw_set)
        root = write_raw()
    else:
        root = write_raw()
        change(root)
    out = tmp_path / "out"
    with pytest.raises(DataError, match=message) as error:
        tfds_refcoco.build("refcoco_unc", out, root, progress=False)
    assert error.value.skippable
    assert not (out / "tfds_refcoco").exists()

    command = ["build", "--dataset", "refcoco_unc", "--raw", str(root), "--out", str(out)]
    assert main(command) == 1
    assert "Use --skip-bad" in capsys.readouterr().err
    assert main([*command, "--skip-bad"]) == 0
    assert "skipped 1 invalid items, listed in" in capsys.readouterr().out
    built = tfds_refcoco.open_dataset(out, "refcoco_unc")
    (skipped,) = json.loads((built.path / "build.json").read_text())["skipped"]
    assert fault == "missing" or re.search(message, skipped), skipped
    assert _picture(root, 0).name in skipped or fault != "missing"
    assert built.split("train").counts.sentences == left
    assert built.split("val").counts.sentences == 3


def test_a_gray_image_is_kept_and_counted(write_raw, tmp_path, capsys):
    root = write_raw()
    _save("L")(root)
    command = [
        "build",
        "--dataset",
        "refcoco_unc",
        "--raw",
        str(root),
        "--out",
        str(tmp_path / "o"),
    ]
    assert main(command) == 0
    assert "1 images are gray" in capsys.readouterr().out
    record = tfds_refcoco.open_dataset(tmp_path / "o", "refcoco_unc").split("train").record(0)
    assert record["image"] == _picture(root, 0).read_bytes()


def test_non_ascii_text_of_python_2(raw_set, write_raw, tmp_path):
    # Python 2 wrote text as bytes: UTF-8 here. Latin-1 is indistinguishable from other encodings.
    raw_set.refs[0]["sentences"][0]["sent"] = "caf\u00e9 \u4eba"
    root = write_raw()
    path = root / "refcoco/refs(unc).p"
    text = "caf\u00e9 \u4eba".encode()
    data = path.read_bytes()
    unicode_form = b"X" + len(text).to_bytes(4, "little") + text
    assert data.count(unicode_form) == 1
    path.write_bytes(data.replace(unicode_form, b"U" + bytes([len(text)]) + text))
    tfds_refcoco.build("refcoco_unc", tmp_path / "out", root, progress=False)
    split = tfds_refcoco.open_dataset(tmp_path / "out", "refcoco_unc").split("train")
    assert split.index.text[0] == "caf\u00e9 \u4eba"
    path.write_bytes(data.replace(unicode_form, b"U\x04caf\xe9"))
    with pytest.raises(DataError, match=r"refs\(unc\)\.p: not a complete pickle"):
        tfds_refcoco.build("refcoco_unc", tmp_path / "other", root, progress=False)


@pytest.mark.parametrize("fault", [lambda path: path.write_bytes(b""), Path.unlink])
def test_a_split_without_valid_images(write_raw, tmp_path, fault):
    root = write_raw()
    fault(_picture(root, 2))  # the only one of val
    with pytest.raises(
        DataError, match=r"val: every image of the split is invalid; first error: .*"
    ):
        tfds_refcoco.build("refcoco_unc", tmp_path / "out", root, progress=False, skip_bad=True)


def test_partial_builds(write_raw, tmp_path, capsys):
    root, out = write_raw(), tmp_path / "out"
    _picture(root, 0).unlink()  # in train: not needed for val
    command = ["build", "--dataset", "refcoco_unc", "--raw", str(root), "--out", str(out)]
    for splits in (["--split", "val"], ["--split", "val", "--split", "val"]):
        assert main([*command, *splits]) == 0
    assert tfds_refcoco.open_dataset(out, "refcoco_unc").splits == ("val",)
    capsys.readouterr()
    assert main(command) == 1
    assert "was built with --split ['val'], not []" in capsys.readouterr().err
    assert main([*command, "--split", "dev"]) == 1
    assert "split: unknown split 'dev'; choose from train, val" in capsys.readouterr().err
    with pytest.raises(DataError, match="max_images: 0 must be at least 1"):
        tfds_refcoco.build("refcoco_unc", out, root, max_images=0)
    command[-1] = str(tmp_path / "other")
    assert main([*command, "--split", "testA"]) == 1
    assert "refcoco_unc has no split testA" in capsys.readouterr().err
    assert main([*command, "--split", "val", "--split", "testA"]) == 1
    assert "refcoco_unc has no split testA; available are val" in capsys.readouterr().err
    _save("RGB")(root)
    command[-1] = str(out)
    assert main([*command, "--max-images", "1", "--overwrite"]) == 0
    built = tfds_refcoco.open_dataset(out, "refcoco_unc")
    assert [len(built.split(name)) for name in built.splits] == [1, 1]


@pytest.fixture
def small_disk(tmp_path):
    """Mounts file systems of a given size in bytes."""
    mounted = []

    def mount(size):
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no file system can be mounted: {error}")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk(raw_set, write_raw, tmp_path, small_disk, capsys):
    root = write_raw()
    noise = np.random.default_rng(0).integers(0, 255, (30, 40, 3), np.uint8)
    for number in range(3):  # bytes after the end of a JPEG are ignored and kept
        Image.fromarray(noise).save(_picture(root, number))
        with _picture(root, number).open("ab") as file:
            file.write(os.urandom(200_000))
    command = ["build", "--dataset", "refcoco_unc", "--raw", str(root), "--out"]
    # Too small for the images, for the records, and for the later files.
    expected = {
        400_000: r"no space left: the images need 0\.6 MB, but only 0\.\d MB are free",
        612_000: r"the records cannot be written: .*No space left on device; choose an --out",
        624_000: "No space left on device",
    }
    for size, message in expected.items():
        disk = small_disk(size)
        assert main([*command, str(disk)]) == 1
        (line,) = [x for x in capsys.readouterr().err.splitlines() if x.startswith("error: ")]
        assert re.search(message, line), line
        assert [path.name for path in disk.iterdir()] == [".building-refcoco_unc.lock"]
    disk = small_disk(1_000_000)
    assert main([*command, str(disk)]) == 0
    before = (disk / "tfds_refcoco/refcoco_unc/3.0.0/build.json").stat().st_ino
    assert main([*command, str(disk), "--overwrite"]) == 1  # there is no space for a second one
    assert "space" in capsys.readouterr().err
    assert (disk / "tfds_refcoco/refcoco_unc/3.0.0/build.json").stat().st_ino == before
    tfds_refcoco.open_dataset(disk, "refcoco_unc").split("train").record(1)
