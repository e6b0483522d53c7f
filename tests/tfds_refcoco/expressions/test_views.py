"""Crops and mirror images, whose sentences must be correct for the view."""

import json

import numpy as np
import pytest
from PIL import Image

import tfds_refcoco
from tests.tfds_refcoco.helpers.trees import contents
from tfds_refcoco import masks
from tfds_refcoco.errors import DataError
from tfds_refcoco.expressions.scene import Annotation, make_scene
from tfds_refcoco.expressions.views import (
    View,
    sample_views,
    view_annotations,
    view_pixels,
)
from tfds_refcoco.expressions.write import generate_expressions

W, H = 80, 60
LEFT = {f"{word} cup" for word in ("left", "leftmost", "far left")} | {
    f"cup {words}" for words in ("on the left", "on left", "to the left", "left", "on far left")
}


def annotation(left, top, width, height, number=0, category="cup"):
    mask = np.zeros((H, W), np.uint8)
    mask[top : top + height, left : left + width] = 1
    return Annotation(number, category, masks.encode(mask), False)


def test_pixels_and_masks_are_transformed_consistently():
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 2, (H, W)).astype(np.uint8)
    pixels = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    whole = [Annotation(7, "cup", masks.encode(mask), False)]
    views = sample_views(rng, W, H, 40)
    assert views[0] == View(0, 0, W, H, True)
    assert {view.mirrored for view in views[1:]} == {True, False}
    for view in views:
        assert view.left >= 0 and view.left + view.width <= W
        assert view.top >= 0 and view.top + view.height <= H
        assert min(view.width / W, view.height / H) > 0.4
        [part] = view_annotations(whole, W, H, view)
        shown = masks.decode(part.counts, view.height, view.width)
        np.testing.assert_array_equal(view_pixels(pixels, view)[..., 0], 255 * shown)
        assert part.shown == pytest.approx(shown.sum() / mask.sum())
    # The top left corner of a mirrored crop is the top right corner of the crop.
    view = View(10, 20, 30, 25, True)
    np.testing.assert_array_equal(view_pixels(pixels, view)[0, 0], pixels[20, 39])


def test_truncated_objects_are_rivals_but_not_referents():
    pixels = np.full((H, W, 3), (200, 20, 20), np.uint8)
    people = [annotation(5, 5, 20, 50, 1, "person"), annotation(50, 5, 20, 50, 2, "person")]
    view = View(17, 0, 60, H, False)
    parts = view_annotations(people, W, H, view)
    scene = make_scene(parts, view.width, view.height, view_pixels(pixels, view))
    cut, whole = scene.things
    assert not cut.salient and whole.salient  # 8 of 20 columns remain
    # The truncated person's clothes are unknown: no colour is clear, and all are possible.
    assert not cut.clear and set(cut.possible.values()) == {1.0}
    assert whole.clear["red"] == 1


@pytest.fixture
def coco(tmp_path):
    """Ten pictures with a red cup on the left and two blue cups on the right."""
    images, annotations = [], []
    (tmp_path / "photos").mkdir()
    for i in range(10):
        pixels = np.full((H, W, 3), 150 + i, np.uint8)
        boxes = [(4, 20, 14, 22), (36 + i, 8, 12, 18), (62, 30 + i, 12, 18)]
        for k, (x, y, w, h) in enumerate(boxes):
            pixels[y : y + h, x : x + w] = (30, 60, 200) if k else (200, 20, 20)
            polygon = [[x, y, x + w, y, x + w, y + h, x, y + h]]
            annotations.append(
                {"id": 10 * i + k, "image_id": i, "category_id": 1, "segmentation": polygon}
            )
        Image.fromarray(pixels).save(tmp_path / f"photos/{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": W, "height": H})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cup"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path / "instances.json"


def generate(coco, out, **options):
    photos = coco.parent / "photos"
    made = generate_expressions(coco, photos, out, progress=False, **options)
    return json.loads(made.path.read_text())["images"], made


def test_views_are_only_in_train_and_match_their_pixels(coco, tmp_path):
    options = {"val": 0.2, "test": 0.3, "views": 4, "draws": 2}
    images, made = generate(coco, tmp_path / "raw", **options)
    split = {image["id"]: image["split"] for image in images if image["id"] < 10}
    assert sorted(split.values()) == ["test"] * 3 + ["train"] * 5 + ["val"] * 2
    views = [image for image in images if image["id"] >= 10]
    assert 15 < len(views) <= 20 and {image["split"] for image in views} == {"train"}
    assert {split[image["id"] % 10] for image in views} == {"train"}
    ids = [item["id"] for image in images for item in image["objects"]]
    assert len(set(ids)) == len(ids) and len({image["id"] for image in images}) == len(images)
    sides = set()
    for image in images:
        path = tmp_path / ("photos" if image["id"] < 10 else "raw") / image["file"]
        pixels = np.asarray(Image.open(path))
        assert len({s["text"] for s in image["sentences"]}) <= len(image["sentences"])
        for sentence in image["sentences"]:
            target = image["objects"][sentence["objects"][0]]
            rle = target["mask"]["rle"]
            assert rle["size"] == list(pixels.shape[:2])
            mask = masks.decode(rle["counts"].encode(), *rle["size"]).astype(bool)
            red, _, blue = pixels[mask].astype(int).mean(axis=0)
            words = sentence["text"].split()
            assert "red" not in words or red > blue
            assert "blue" not in words or blue > red
            if sentence["text"].removeprefix("the ") in LEFT:
                x = np.flatnonzero(mask.any(axis=0)).mean()
                of_others = [
                    np.flatnonzero(
                        masks.decode(o["mask"]["rle"]["counts"].encode(), *rle["size"]).any(axis=0)
                    ).mean()
                    for o in image["objects"]
                    if o is not target
                ]
                assert all(x < other for other in of_others)
                sides.add(bool(blue > red))
    assert sides == {True, False}  # mirrored, a blue one is on the left
    assert made.images["train"] == 5 + len(views)
    tfds_refcoco.build("custom", tmp_path / "data", tmp_path / "raw", progress=False)
    again, _ = generate(coco, tmp_path / "again", **options)
    assert contents(tmp_path / "again/copies") == contents(tmp_path / "raw/copies")
    assert [image["sentences"] for image in again] == [image["sentences"] for image in images]


def test_more_draws_add_sentences(coco, tmp_path):
    _, once = generate(coco, tmp_path / "once")
    several, many = generate(coco, tmp_path / "many", draws=4)
    assert many.sentences > 1.5 * once.sentences
    for image in several:
        sentences = [(s["text"], *s["objects"]) for s in image["sentences"]]
        assert len(set(sentences)) == len(sentences)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": 0.95}, "test: 0.95 must be at least 0 and less than 1 - val"),
        ({"views": -1}, "views: -1 is not between 0 and 100"),
        ({"draws": 0}, "draws: 0 is not between 1 and 100"),
    ],
)
def test_invalid_options(coco, tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        generate(coco, tmp_path / "raw", **options)
