"""People's own data: the schema of docs/data.md, and every way to get it wrong."""

import json
import unicodedata

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import tfds_refcoco
from tfds_refcoco.errors import DataError
from tfds_refcoco.masks import decode
from tfds_refcoco.raw.read import read_raw
from tfds_refcoco.records.reader import sentence_mask

H, W = 30, 40
POLYGON = [2, 3, 12, 3, 12, 11, 2, 11]


@pytest.fixture
def custom(tmp_path):
    """A folder with two photos, a mask of each kind, and the content of custom.json."""
    root = tmp_path / "mine"
    (root / "photos").mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 255, (H, W, 3), np.uint8)
    Image.fromarray(pixels).save(root / "photos/a.jpg")
    Image.fromarray(pixels).save(root / "photos/b.png")
    labels = np.zeros((H, W), np.uint8)
    labels[5:9, 10:20], labels[20:25, 3:9] = 1, 7
    Image.fromarray(labels).save(root / "labels.png")
    rle = coco_mask.encode(np.asfortranarray(labels == 1, np.uint8))
    content = {
        "images": [
            {
                "file": "photos/a.jpg",
                "split": "train",
                "objects": [
                    {"mask": {"polygons": [POLYGON]}, "category": "dog"},
                    {"mask": {"rle": {"size": [H, W], "counts": rle["counts"].decode()}}},
                    {"mask": {"png": "labels.png", "value": 7}, "category": "dog"},
                ],
                "sentences": [
                    {"text": "der Hund, größer", "objects": [0]},
                    {"text": "both dogs", "objects": [0, 2]},
                    {"text": "the unicorn", "objects": []},
                    {"text": "左の犬", "objects": [0]},
                ],
            },
            {
                "file": "photos/b.png",
                "split": "val",
                "objects": [{"mask": {"png": "labels.png"}}],
                "sentences": [{"text": "all that is marked", "objects": [0]}],
            },
        ]
    }
    return root, content


def _ids(record):
    sentences = record["sentences"]
    return (
        record["image_id"],
        record["objects"]["ann_id"].tolist(),
        sentences["sent_id"].tolist(),
        sentences["ref_id"].tolist(),
    )


def write(root, content):
    (root / "custom.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return root


def test_records(custom, tmp_path):
    root, content = custom
    tfds_refcoco.build("custom", tmp_path / "out", write(root, content), progress=False)
    built = tfds_refcoco.open_dataset(tmp_path / "out", "custom")
    record = built.split("train").record(0)
    assert record["image"] == (root / "photos/a.jpg").read_bytes()
    assert record["sentences"]["sent"][3] == "左の犬"
    assert record["sentences"]["ref_id"].tolist() == [0, 1, 2, 0]  # same objects, same ref
    assert record["objects"]["category"] == ["dog", "", "dog"]
    assert record["objects"]["same_category"].tolist() == [2, 0, 2]
    expected = coco_mask.decode(coco_mask.frPyObjects([POLYGON], H, W))[..., 0]
    np.testing.assert_array_equal(decode(sentence_mask(record, 0), H, W), expected)
    labels = np.asarray(Image.open(root / "labels.png"))
    np.testing.assert_array_equal(decode(record["objects"]["mask"][1], H, W), labels == 1)
    np.testing.assert_array_equal(decode(sentence_mask(record, 1), H, W), expected | (labels == 7))
    assert not decode(sentence_mask(record, 2), H, W).any()
    assert record["objects"]["bbox"][2].tolist() == [3, 20, 6, 5]
    assert record["objects"]["area"].tolist() == [expected.sum(), 40, 30]
    val = built.split("val").record(0)
    assert _ids(val) == (1, [3], [4], [4])
    assert val["image"] == (root / "photos/b.png").read_bytes()
    np.testing.assert_array_equal(decode(val["objects"]["mask"][0], H, W), labels > 0)


def test_tfds_decodes_png_gray_and_color_alike(custom, tmp_path):
    root, content = custom
    gray = Image.fromarray(np.arange(H * W, dtype=np.uint16).reshape(H, W).astype(np.uint8))
    gray.save(root / "photos/a.jpg")
    path = tfds_refcoco.build("custom", tmp_path / "out", write(root, content), progress=False)
    assert json.loads((path / "build.json").read_text())["gray_images"] == 1
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(path)
    for split, name in (("train", "photos/a.jpg"), ("val", "photos/b.png")):
        image = builder.as_data_source(split)[0]["image"]
        expected = np.asarray(Image.open(root / name).convert("RGB"))
        np.testing.assert_allclose(image.astype(int), expected, atol=1)


def test_ids(custom, tmp_path):
    root, content = custom
    write(root, content)
    # What is numbered keeps its numbers when a part is built.
    whole = read_raw(root, "custom")["val"][0]
    assert read_raw(root, "custom", splits=("val",)) == {"val": (whole,)}
    for number, image in enumerate(content["images"]):
        image["id"] = 900 + number
        for item in image["objects"] + image["sentences"]:
            item["id"] = id(item)
    image = read_raw(write(root, content), "custom")["val"][0]
    (item,), (sentence,) = content["images"][1]["objects"], content["images"][1]["sentences"]
    assert (image.image_id, image.objects[0].ann_id) == (901, item["id"])
    assert image.sentences[0].sent_id == sentence["id"]


def _set(path, value):
    """Sets the item at a path such as ("images", 0, "file")."""

    def change(content):
        for step in path[:-1]:
            content = content[step]
        content[path[-1]] = value

    return change


OBJECT, SENTENCE = ("images", 0, "objects", 0), ("images", 0, "sentences", 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(("images",), {}), r"custom\.json: top level\.images: dict"),
        (_set(("images", 0), 3), r"images\[0\]: expected a dictionary"),
        (_set(("images", 0, "split"), "dev"), r"images\[0\]\.split: 'dev' is none of train, val"),
        (_set(("images", 0, "file"), "../a.jpg"), r"images\[0\]\.file: .* no path below"),
        (_set(("images", 0, "file"), "/etc/passwd"), r"images\[0\]\.file: .* no path below"),
        (_set(("images", 0, "file"), "b.jpg"), r"images\[0\]\.file: .*b\.jpg is missing"),
        (_set(("images", 0, "file"), "custom.json"), r"custom\.json: not a readable JPEG or PNG"),
        (_set(("images", 0, "id"), 0), r"images\[1\]\.id: missing; give every image an id, or"),
        (_set(("images", 0, "id"), "x"), r"images\[0\]\.id: str, expected int"),
        (_set((*OBJECT, "id"), 0), r"objects\[1\]\.id: missing; give every object an id"),
        (_set((*SENTENCE, "id"), 0), r"sentences\[0\]\.id: missing; give every sentence"),
        (_set(("images", 0, "objcts"), []), r"images\[0\]\.objcts: no such field; there are file"),
        (_set((*OBJECT, "catgory"), "dog"), r"objects\[0\]\.catgory: no such field"),
        (_set((*OBJECT, "mask", "valeu"), 7), r"objects\[0\]\.mask\.valeu: no such field"),
        (_set((*SENTENCE, "target"), 7), r"sentences\[1\]\.target: no such field"),
        (_set((*OBJECT, "mask"), {}), r"objects\[0\]\.mask: expected one of polygons, rle, png"),
        (_set((*OBJECT, "mask"), [POLYGON]), r"objects\[0\]\.mask: list"),
        (
            _set((*OBJECT, "mask"), {"polygons": [POLYGON[:4]]}),
            r"objects\[0\]\.mask: segmentation\[0\]: expected x, y pairs of at least three",
        ),
        (
            _set((*OBJECT, "mask"), {"rle": {"size": [W, H], "counts": "0"}}),
            r"objects\[0\]\.mask: segmentation\.size: \[40, 30\] is not",
        ),
        (_set((*OBJECT, "mask"), {"png": "labels.png", "value": 9}), r"\[0\]\.mask: no pixel"),
        (_set((*OBJECT, "mask"), {"png": "photos/a.jpg"}), r"a\.jpg: expected a PNG with one"),
        (_set((*OBJECT, "mask"), {"png": "no.png"}), r"mask\.png: .*no\.png is missing"),
        (_set((*OBJECT, "category"), None), r"objects\[0\]\.category: NoneType"),
        (_set((*SENTENCE, "text"), "  "), r"sentences\[1\]\.text: the sentence is empty"),
        (_set((*SENTENCE, "text"), "\ud800"), r"sentences\[1\]\.text: .* not valid Unicode"),
        (_set((*SENTENCE, "objects"), 0), r"sentences\[1\]\.objects: int"),
        (_set((*SENTENCE, "objects"), [3]), r"sentences\[1\]\.objects: object 3 is not there"),
        (_set((*SENTENCE, "objects"), [-1]), r"sentences\[1\]\.objects: object -1 is not there"),
        (_set((*SENTENCE, "objects"), [0, 0]), r"\[1\]\.objects: \[0, 0\] names an object twice"),
        (_set(("images", 0, "sentences"), []), r"images\[0\]\.sentences: the image has no"),
    ],
)
def test_faulty_fields(custom, change, message):
    root, content = custom
    change(content)
    (root / "custom.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=message):
        read_raw(root, "custom")


def test_masks_of_another_size_and_pictures_of_other_kinds(custom):
    root, content = custom
    write(root, content)
    Image.new("L", (H, W)).save(root / "labels.png")
    with pytest.raises(DataError, match=r"labels\.png: the mask is 30x40 pixels, its image 40x30"):
        read_raw(root, "custom")
    Image.new("RGBA", (W, H)).save(root / "photos/b.png")
    Image.new("CMYK", (W, H)).save(root / "photos/a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: its pixels are CMYK, expected 8-bit RGB or gray"):
        read_raw(root, "custom")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (W, H)).save(root / "photos/a.jpg", exif=exif)
    with pytest.raises(DataError, match="EXIF orientation is 6"):
        read_raw(root, "custom")


def test_pngs_that_readers_take_differently(custom, tmp_path):
    root, content = custom
    write(root, content)
    path = root / "photos/b.png"
    whole = path.read_bytes()
    for cut in (1, 12, 20, 500):
        path.write_bytes(whole[:-cut])
        with pytest.raises(DataError, match=r"b\.png: (damaged|not a readable)"):
            tfds_refcoco.build("custom", tmp_path / "out", root, progress=False)
    cv2.imwrite(str(path), np.zeros((H, W, 3), np.uint16))
    with pytest.raises(DataError, match=r"b\.png: not of 8 bits"):
        tfds_refcoco.build("custom", tmp_path / "out", root, progress=False)


def test_postscript_is_never_run(custom, tmp_path, monkeypatch):
    """Pillow hands an EPS to Ghostscript, whatever the file is called."""
    root, content = custom
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 30\n%%EndComments\nshowpage\n%%EOF\n"
    write(root, content)
    for name, said in (("labels.png", "not a readable PNG"), ("photos/a.jpg", "not a readable")):
        (root / name).write_bytes(eps)
        with pytest.raises(DataError, match=f"{name}: {said}"):
            read_raw(root, "custom")
    assert not (tmp_path / "ran").exists()


def test_too_many_pixels(custom):
    root, content = custom
    write(root, content)
    Image.new("L", (10_000, 10_000)).save(root / "photos/b.png")
    with pytest.raises(DataError, match=r"more than 89,478,485 pixels; scale it down"):
        read_raw(root, "custom")


@pytest.mark.parametrize(("disk", "text"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_names_in_another_unicode_form(custom, disk, text):
    """macOS writes ü as two characters, and other systems read that as another name."""
    root, content = custom
    name = "Küche/Größe é.jpg"
    path = root / unicodedata.normalize(disk, name)
    path.parent.mkdir()
    (root / "photos/a.jpg").rename(path)
    content["images"][0]["file"] = unicodedata.normalize(text, name)
    image = read_raw(write(root, content), "custom")["train"][0]
    assert image.file.path == path
    path.unlink()
    with pytest.raises(DataError, match=r"Größe é\.jpg is missing"):
        content["images"][0]["file"] = name
        read_raw(write(root, content), "custom")


def test_a_name_as_long_as_file_systems_allow(custom, tmp_path):
    root, content = custom
    name = "图" * 82 + ".jpg"  # 250 bytes
    (root / "photos/a.jpg").rename(root / name)
    content["images"][0]["file"] = name
    tfds_refcoco.build("custom", tmp_path / "out", write(root, content), progress=False)
    record = tfds_refcoco.open_dataset(tmp_path / "out", "custom").split("train").record(0)
    assert record["file_name"] == name


def test_a_byte_order_mark(custom):
    root, content = custom
    whole = write(root, content) / "custom.json"
    expected = read_raw(root, "custom")
    whole.write_bytes(b"\xef\xbb\xbf" + whole.read_bytes())
    assert read_raw(root, "custom") == expected


def test_a_missing_file_or_folder(tmp_path):
    with pytest.raises(DataError, match=r"custom\.json not found\. Tried:\n.*\nWrite it as"):
        read_raw(tmp_path, "custom")


def test_images_may_be_elsewhere(custom, tmp_path):
    root, content = custom
    (tmp_path / "elsewhere").mkdir()
    (root / "photos").rename(tmp_path / "elsewhere/photos")
    for folder in ("../elsewhere", str(tmp_path / "elsewhere")):
        content["image_dir"] = folder
        assert [len(i) for i in read_raw(write(root, content), "custom").values()] == [1, 1]
    content["images"][0]["file"] = "../photos/a.jpg"  # leads out of that folder, too
    with pytest.raises(DataError, match="or below its image_dir"):
        read_raw(write(root, content), "custom")
    content["images"][0]["file"] = "photos/c.jpg"
    with pytest.raises(DataError, match=r"elsewhere/photos/c.jpg is missing; .* or to image_dir"):
        read_raw(write(root, content), "custom")
    content["image_dir"] = "nowhere"
    with pytest.raises(DataError, match=r"image_dir: .*nowhere is no folder"):
        read_raw(write(root, content), "custom")


def test_kinds_and_rivals(custom, tmp_path):
    root, content = custom
    first = content["images"][0]
    first["sentences"][1]["kind"] = "relation"
    first["objects"][0]["same_category"] = 5
    tfds_refcoco.build("custom", tmp_path / "out", write(root, content), progress=False)
    split = tfds_refcoco.open_dataset(tmp_path / "out", "custom").split("train")
    record = split.record(0)
    assert record["sentences"]["kind"] == split.index.kind == ["", "relation", "", ""]
    assert record["objects"]["same_category"].tolist() == [5, 0, 2]
    for value in (1, -1, 2**31):  # two dogs are listed
        first["objects"][0]["same_category"] = value
        with pytest.raises(DataError, match=f"same_category: {value}; it counts .* 2 are listed"):
            read_raw(write(root, content), "custom")
