"""The raw layout, and the error messages for invalid raw files."""

import shutil

import pytest
from PIL import Image

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.images import read_image
from tfds_refcoco.raw.read import read_raw


def test_synthetic_content(raw_set, write_raw):
    splits = read_raw(write_raw(), "refcoco_unc")
    assert list(splits) == ["train", "val"]
    first = splits["train"][0]
    assert (first.image_id, first.height, first.width) == (0, 30, 40)
    assert first.file.path.name == first.file_name == "COCO_train2014_000000000000.jpg"
    assert [item.ann_id for item in first.objects] == [0, 1]
    item = first.objects[1]
    assert (item.category, item.bbox, item.area) == ("person", (2.0, 3.0, 10.0, 8.0), 80.0)
    assert [(s.sent_id, s.targets[0], s.sent, s.raw) for s in first.sentences] == [
        (0, 0, "thing 000", "Thing 0!"),
        (10, 1, "thing 010", "Thing 0!"),
        (11, 1, "thing 011", "Thing 1!"),
    ]


def test_real_content(mini_refcoco):
    splits = read_raw(mini_refcoco, "refcoco_unc")
    assert {k: sum(len(i.sentences) for i in v) for k, v in splits.items()} == {
        "val": 45,
        "testA": 18,
        "testB": 33,
    }
    images = [image for images in splits.values() for image in images]
    assert len(images) == 12
    assert sum(len(image.objects) for image in images) == 33
    for image in images:
        assert read_image(image) == (image.file.path.read_bytes(), False)


@pytest.mark.parametrize("folder", ["refcoco+", "refcocoplus"])
@pytest.mark.parametrize("images", ["images", "images/mscoco/images/train2014"])
def test_other_folder_names(write_raw, folder, images):
    assert len(read_raw(write_raw(folder=folder, images=images), "refcocoplus_unc")["val"]) == 1


def test_names_of_2017(raw_set, write_raw):
    for row in raw_set.images:
        row["file_name"] = row["file_name"].removeprefix("COCO_train2014_")
    root = write_raw(images="images/train2017")
    instances = root / "refcoco" / "instances.json"
    instances.write_text(instances.read_text().replace("00000000", "COCO_train2014_00000000", 3))
    image = read_raw(root, "refcoco_unc")["train"][0]
    assert image.file.path == root / "images/train2017/000000000000.jpg"
    assert image.file_name == "COCO_train2014_000000000000.jpg"


def _edit(name, row, **changes):
    def change(made):
        getattr(made, name)[row].update(changes)

    return change


def _drop(name, row, key):
    return lambda made: getattr(made, name)[row].pop(key)


def _sentence(**changes):
    return lambda made: made.refs[3]["sentences"][1].update(changes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_drop("refs", 1, "ann_id"), r"refs\[1\]\.ann_id: the field is missing"),
        (_drop("refs", 1, "sentences"), r"refs\[1\]\.sentences: the field is missing"),
        (_drop("refs", 1, "split"), r"refs\[1\]\.split: the field is missing"),
        (_edit("refs", 1, sentences=[]), r"refs\[1\]\.sentences: the ref has no sentences"),
        (_edit("refs", 1, sentences={"a": 1}), r"refs\[1\]\.sentences: expected list, got dict"),
        (
            _edit("refs", 1, split="trian"),
            r"refs\[1\]\.split: unknown split 'trian'; expected one of train",
        ),
        (_edit("refs", 1, ref_id="1"), r"refs\[1\]\.ref_id: expected int, got str"),
        (_edit("refs", 1, ref_id=True), r"refs\[1\]\.ref_id: expected int, got bool"),
        (_edit("refs", 1, ref_id=1 << 63), r"does not fit in 64 bits"),
        (_edit("refs", 1, ref_id=0), r"refs\[1\]\.ref_id: 0 appears twice"),
        (_edit("refs", 1, ann_id=77), r"refs\[1\]\.ann_id: 77 is not in .*instances\.json"),
        (_edit("refs", 1, image_id=77), r"refs\[1\]\.image_id: 77 is not in"),
        (
            _edit("refs", 1, image_id=2),
            r"refs\[1\]\.image_id: 2 differs from the image of ann_id 1",
        ),
        (_sentence(sent_id=0), r"refs\[3\]\.sentences\[1\]\.sent_id: 0 appears twice"),
        (_sentence(sent=None), r"refs\[3\]\.sentences\[1\]\.sent: expected str, got NoneType"),
        (_sentence(raw="\ud800"), r"sentences\[1\]\.raw: .* not valid Unicode"),
        (_drop("annotations", 3, "bbox"), r"annotations\[3\]\.bbox: the field is missing"),
        (_edit("annotations", 3, bbox=[1, 2, 3]), r"annotations\[3\]\.bbox"),
        (_edit("annotations", 3, bbox=[1, 2, 3, -1]), r"annotations\[3\]\.bbox"),
        (_edit("annotations", 3, bbox=[1, 2, 3, float("nan")]), r"annotations\[3\]\.bbox"),
        (
            _edit("annotations", 3, area=0),
            r"annotations\[3\]\.area: 0 is not a positive number of pixels",
        ),
        (_edit("annotations", 3, area=float("inf")), r"annotations\[3\]\.area"),
        (_edit("annotations", 3, category_id=9), r"annotations\[3\]\.category_id: 9"),
        (
            _edit("annotations", 3, segmentation=7),
            r"annotations\[3\]\.segmentation: expected list or dict, got int",
        ),
        (_edit("annotations", 3, id=1), r"annotations\[3\]\.id: 1 appears twice"),
        (_edit("images", 1, id=0), r"images\[1\]\.id: 0 appears twice"),
        (_edit("images", 1, width=0), r"images\[1\]\.width: 0"),
        (_drop("images", 1, "height"), r"images\[1\]\.height: the field is missing"),
        (lambda made: made.refs.__setitem__(1, [1]), r"refs\[1\]: expected a dictionary"),
        (lambda made: made.refs.clear(), r"expected a non-empty list of refs"),
    ],
)
def test_invalid_fields(raw_set, write_raw, change, message):
    change(raw_set)
    with pytest.raises(DataError, match=message):
        read_raw(write_raw(), "refcoco_unc")


def test_missing_annotation_files(write_raw, tmp_path):
    root = write_raw()
    with pytest.raises(DataError, match="expected one of refcoco_unc, refcoco_google"):
        read_raw(root, "refcoco")
    with pytest.raises(DataError) as error:
        read_raw(root, "refcocoplus_unc")
    for part in ("refcoco+/instances.json", "refcocoplus/instances.json", "lichengunc/refer"):
        assert part in str(error.value)
    with pytest.raises(DataError, match=r"refcoco/refs\(google\)\.p"):
        read_raw(root, "refcoco_google")


def test_missing_images(write_raw):
    root = write_raw()
    (root / "images/train2014/COCO_train2014_000000000001.jpg").unlink()
    with pytest.raises(DataError, match=r"1 images .* COCO_train2014_000000000001\.jpg") as error:
        read_raw(root, "refcoco_unc")
    assert "images/train2017" in str(error.value)
    assert "http://images.cocodataset.org/zips/train2014.zip" in str(error.value)
    shutil.rmtree(root / "images")
    with pytest.raises(DataError, match="3 images"):
        read_raw(root, "refcoco_unc")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"images": 1}', "[" * 100_000])
def test_broken_json(write_raw, text):
    root = write_raw()
    (root / "refcoco/instances.json").write_text(text)
    with pytest.raises(DataError, match=r"instances\.json"):
        read_raw(root, "refcoco_unc")


def test_pictures_are_checked(write_raw):
    root = write_raw()
    image = read_raw(root, "refcoco_unc")["train"][0]
    Image.new("RGB", (41, 30)).save(image.file.path, "JPEG")
    with pytest.raises(
        DataError, match=r"41x30 pixels, but .*instances\.json: image id 0 has 40x30"
    ):
        read_image(image)
    Image.new("RGB", (40, 30)).save(image.file.path, "PNG")
    with pytest.raises(DataError, match="expected JPEG, got PNG"):
        read_image(image)
    for data in (b"", b"\xff\xd8\xff", b"<html>404</html>"):
        image.file.path.write_bytes(data)
        with pytest.raises(DataError, match="not a readable JPEG"):
            read_image(image)


def test_annotations_without_a_ref_are_not_checked(raw_set, write_raw):
    raw_set.annotations.append({"id": 999})
    assert list(read_raw(write_raw(), "refcoco_unc")) == ["train", "val"]
