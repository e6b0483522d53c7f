"""Error messages for invalid custom data."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

import tfds_refcoco
from tests.tfds_refcoco.helpers.custom import POLYGON, H, W, write
from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.read import read_raw


def _set(path, value):
    """Returns a function that sets the item at a path such as ("images", 0, "file")."""

    def change(content):
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value

    return change


OBJECT, SENTENCE = ("images", 0, "objects", 0), ("images", 0, "sentences", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(("images",), {}), r"custom\.json: top level\.images: expected list, got dict"),
        (_set(("images", 0), 3), r"images\[0\]: expected a dictionary"),
        (
            _set(("images", 0, "split"), "dev"),
            r"images\[0\]\.split: unknown split 'dev'; expected one of train, val",
        ),
        (_set(("images", 0, "file"), "../a.jpg"), r"images\[0\]\.file: .* is not a relative path"),
        (
            _set(("images", 0, "file"), "/etc/passwd"),
            r"images\[0\]\.file: .* is not a relative path",
        ),
        (_set(("images", 0, "file"), "b.jpg"), r"images\[0\]\.file: .*b\.jpg does not exist"),
        (_set(("images", 0, "file"), "custom.json"), r"custom\.json: not a readable JPEG or PNG"),
        (_set(("images", 0, "id"), 0), r"images\[1\]\.id: missing; add an id to every image or"),
        (_set(("images", 0, "id"), "x"), r"images\[0\]\.id: expected int, got str"),
        (_set((*OBJECT, "id"), 0), r"objects\[1\]\.id: missing; add an id to every object"),
        (_set((*SENTENCE, "id"), 0), r"sentences\[0\]\.id: missing; add an id to every sentence"),
        (_set(("images", 0, "objcts"), []), r"images\[0\]\.objcts: unknown field; expected file"),
        (_set((*OBJECT, "catgory"), "dog"), r"objects\[0\]\.catgory: unknown field"),
        (_set((*OBJECT, "mask", "valeu"), 7), r"objects\[0\]\.mask\.valeu: unknown field"),
        (_set((*SENTENCE, "target"), 7), r"sentences\[1\]\.target: unknown field"),
        (_set((*OBJECT, "mask"), {}), r"objects\[0\]\.mask: expected one of polygons, rle, png"),
        (_set((*OBJECT, "mask"), [POLYGON]), r"objects\[0\]\.mask: expected dict, got list"),
        (
            _set((*OBJECT, "mask"), {"polygons": [POLYGON[:4]]}),
            r"objects\[0\]\.mask: segmentation\[0\]: expected x, y pairs of at least three",
        ),
        (
            _set((*OBJECT, "mask"), {"rle": {"size": [W, H], "counts": "0"}}),
            r"objects\[0\]\.mask: segmentation\.size: expected",
        ),
        (
            _set((*OBJECT, "mask"), {"png": "labels.png", "value": 9}),
            r"\[0\]\.mask: contains no pixel",
        ),
        (_set((*OBJECT, "mask"), {"png": "photos/a.jpg"}), r"a\.jpg: expected a PNG with one"),
        (_set((*OBJECT, "mask"), {"png": "no.png"}), r"mask\.png: .*no\.png does not exist"),
        (_set((*OBJECT, "category"), None), r"objects\[0\]\.category: expected str, got NoneType"),
        (_set((*SENTENCE, "text"), "  "), r"sentences\[1\]\.text: the sentence is empty"),
        (_set((*SENTENCE, "text"), "\ud800"), r"sentences\[1\]\.text: .* not valid Unicode"),
        (_set((*SENTENCE, "objects"), 0), r"sentences\[1\]\.objects: expected list, got int"),
        (_set((*SENTENCE, "objects"), [3]), r"sentences\[1\]\.objects: object 3 is out of range"),
        (_set((*SENTENCE, "objects"), [-1]), r"sentences\[1\]\.objects: object -1 is out of range"),
        (_set((*SENTENCE, "objects"), [0, 0]), r"\[1\]\.objects: \[0, 0\] names an object twice"),
        (_set(("images", 0, "sentences"), []), r"images\[0\]\.sentences: the image has no"),
    ],
)
def test_invalid_fields(custom, change, message):
    root, content = custom
    change(content)
    (root / "custom.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_raw(root, "custom")


def test_masks_with_another_size_and_unsupported_pictures(custom):
    root, content = custom
    write(root, content)
    Image.new("L", (H, W)).save(root / "labels.png")
    with pytest.raises(
        DataError, match=r"labels\.png: the mask is 30x40 pixels, but the image is 40x30"
    ):
        read_raw(root, "custom")
    Image.new("RGBA", (W, H)).save(root / "photos/b.png")
    Image.new("CMYK", (W, H)).save(root / "photos/a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: expected 8-bit RGB or gray, got mode CMYK"):
        read_raw(root, "custom")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (W, H)).save(root / "photos/a.jpg", exif=exif)
    with pytest.raises(DataError, match="EXIF orientation is 6"):
        read_raw(root, "custom")


def test_pngs_that_readers_decode_differently(custom, tmp_path):
    root, content = custom
    write(root, content)
    path = root / "photos/b.png"
    whole = path.read_bytes()
    for cut in (1, 12, 20, 500):
        path.write_bytes(whole[:-cut])
        with pytest.raises(DataError, match=r"b\.png: (damaged|not a readable)"):
            tfds_refcoco.build("custom", tmp_path / "out", root, progress=False)
    cv2.imwrite(str(path), np.zeros((H, W, 3), np.uint16))
    with pytest.raises(DataError, match=r"b\.png: not 8-bit"):
        tfds_refcoco.build("custom", tmp_path / "out", root, progress=False)


def test_postscript_is_never_executed(custom, tmp_path, monkeypatch):
    """Pillow would pass an EPS to Ghostscript, independent of the file name."""
    root, content = custom
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF\n"
    write(root, content)
    for name, message in (("labels.png", "not a readable PNG"), ("photos/a.jpg", "not a readable")):
        (root / name).write_bytes(eps)
        with pytest.raises(DataError, match=f"{name}: {message}"):
            read_raw(root, "custom")
    assert not (tmp_path / "ran").exists()


def test_too_many_pixels(custom):
    root, content = custom
    write(root, content)
    Image.new("L", (10_000, 10_000)).save(root / "photos/b.png")
    with pytest.raises(DataError, match=r"more than 89,478,485 pixels; downscale it"):
        read_raw(root, "custom")


def test_a_missing_file_or_folder(tmp_path):
    with pytest.raises(DataError, match=r"custom\.json not found\. Tried:\n.*\nWrite it as"):
        read_raw(tmp_path, "custom")
