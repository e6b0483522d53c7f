"""Custom data: the schema of docs/data.md."""

import json
import unicodedata

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import tfds_refcoco
from tests.tfds_refcoco.helpers.custom import POLYGON, H, W, write
from tfds_refcoco.errors import DataError
from tfds_refcoco.masks import decode
from tfds_refcoco.raw.read import read_raw
from tfds_refcoco.records.reader import sentence_mask


def _ids(record):
    sentences = record["sentences"]
    return (
        record["image_id"],
        record["objects"]["ann_id"].tolist(),
        sentences["sent_id"].tolist(),
        sentences["ref_id"].tolist(),
    )


def test_records(custom, tmp_path):
    root, content = custom
    tfds_refcoco.build("custom", tmp_path / "out", write(root, content), progress=False)
    built = tfds_refcoco.open_dataset(tmp_path / "out", "custom")
    record = built.split("train").record(0)
    assert record["image"] == (root / "photos/a.jpg").read_bytes()
    assert record["sentences"]["sent"][3] == "左の犬"
    assert record["sentences"]["ref_id"].tolist() == [0, 1, 2, 0]  # same objects, so same ref
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


def test_tfds_decodes_gray_and_color_png(custom, tmp_path):
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
    # Default ids do not change in partial builds.
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


@pytest.mark.parametrize(("disk", "text"), [("NFD", "NFC"), ("NFC", "NFD"), ("NFD", "NFD")])
def test_names_in_another_unicode_form(custom, disk, text):
    """macOS stores ü as two characters, which is a different name on other systems."""
    root, content = custom
    name = "Küche/Größe é.jpg"
    path = root / unicodedata.normalize(disk, name)
    path.parent.mkdir()
    (root / "photos/a.jpg").rename(path)
    content["images"][0]["file"] = unicodedata.normalize(text, name)
    image = read_raw(write(root, content), "custom")["train"][0]
    assert image.file.path == path
    path.unlink()
    with pytest.raises(DataError, match=r"Größe é\.jpg does not exist"):
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


def test_images_in_another_folder(custom, tmp_path):
    root, content = custom
    (tmp_path / "elsewhere").mkdir()
    (root / "photos").rename(tmp_path / "elsewhere/photos")
    for folder in ("../elsewhere", str(tmp_path / "elsewhere")):
        content["image_dir"] = folder
        assert [len(i) for i in read_raw(write(root, content), "custom").values()] == [1, 1]
    content["images"][0]["file"] = "../photos/a.jpg"  # also leads out of that folder
    with pytest.raises(DataError, match="or its image_dir"):
        read_raw(write(root, content), "custom")
    content["images"][0]["file"] = "photos/c.jpg"
    with pytest.raises(
        DataError, match=r"elsewhere/photos/c.jpg does not exist; .* or to image_dir"
    ):
        read_raw(write(root, content), "custom")
    content["image_dir"] = "nowhere"
    with pytest.raises(DataError, match=r"image_dir: .*nowhere is not a folder"):
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
        with pytest.raises(DataError, match=f"same_category: expected at least 2, .* got {value}"):
            read_raw(write(root, content), "custom")
