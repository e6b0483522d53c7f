"""Shapes drawn as in the tools, and files that must be refused."""

import numpy as np
import pytest

from tests.tfds_refcoco.helpers.annotations import SQUARE, H, W, cvat, label_studio, raster, region
from tests.tfds_refcoco.helpers.golden import GOLDEN, coco, labelme
from tests.tfds_refcoco.importers.test_faults import fails
from tests.tfds_refcoco.importers.test_variants import png

CORNERS = [[10, 5], [30, 5], [30, 25], [10, 25]]


def labels(workshop, *shapes):
    rows = [{"label": "cup", "description": "cup"} | shape for shape in shapes]
    workshop.write("labels/0.json", labelme(rows))
    return "labelme", workshop.root / "labels", "--val", "0"


@pytest.mark.parametrize("corner", [(30.0, 5.0), (30.5, 5.5), (31.5, 5.7), (30.99, 5.01)])
def test_a_moved_labelme_mask(workshop, corner):
    """The corner is between pixels; labelme's shapes_to_label truncates it."""
    patch = np.random.default_rng(0).random((10, 20)) > 0.3
    points = [list(corner), [corner[0] + 19, corner[1] + 9]]
    shape = {"shape_type": "mask", "points": points, "mask": png(patch, "L")}
    assert workshop.run(*labels(workshop, shape)) == 0
    wanted = np.zeros((H, W), bool)
    (x0, y0), (x1, y1) = np.asarray(points).astype(int)
    wanted[y0 : y1 + 1, x0 : x1 + 1] = patch
    np.testing.assert_array_equal(workshop.result()["cup"][3][0], wanted)


def test_a_tilted_rectangle_of_four_corners(workshop):
    points = [[20, 5], [35, 15], [30, 22], [15, 12]]
    assert workshop.run(*labels(workshop, {"shape_type": "rectangle", "points": points})) == 0
    np.testing.assert_array_equal(workshop.result()["cup"][3][0], raster(np.ravel(points)))


def test_a_circle_larger_than_the_image(workshop, capsys):
    """Pillow would take half a minute to draw it."""
    shape = {"shape_type": "circle", "points": [[20, 20], [1e7, 20]]}
    message = fails(workshop, capsys, *labels(workshop, shape))
    assert "shapes[0]: a circle with radius 9.99998e+06 is larger than the image" in message


def test_a_sentence_repeated_by_parts_of_an_object(workshop, capsys):
    parts = [
        {"points": CORNERS, "group_id": 1},
        {"points": [[1, 1], [9, 1], [9, 5]], "group_id": 1},
    ]
    assert workshop.run(*labels(workshop, *parts)) == 0
    assert [len(image["sentences"]) for image in workshop.content()["images"]] == [1]
    assert "1 duplicate sentences of an object were skipped" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["rx", "ry"])
def test_an_ellipse_without_area(workshop, capsys, recwarn, name):
    text = cvat().replace(
        'rx="12" ry="6"', 'rx="12" ry="6"'.replace(f'{name}="', f'{name}="0" x="')
    )
    message = fails(workshop, capsys, "cvat", workshop.write("a.xml", text))
    assert "image 1.jpg: ellipse 1: an ellipse with radii" in message
    assert not recwarn.list


def test_xml_with_an_unknown_encoding(workshop, capsys):
    text = cvat().replace('encoding="utf-8"', 'encoding="klingon"')
    message = fails(workshop, capsys, "cvat", workshop.write("a.xml", text))
    assert "a.xml: not readable XML (unknown encoding: klingon)" in message


def test_entities_in_another_encoding(workshop, capsys):
    text = cvat().replace(
        'encoding="utf-8"?>', 'encoding="utf-16"?><!DOCTYPE a [<!ENTITY e "cup">]>'
    )
    file = workshop.root / "a.xml"
    file.write_bytes(text.replace("cup on its side", "&e;").encode("utf-16"))
    assert "the file has a doctype" in fails(workshop, capsys, "cvat", file)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            {"left": "1.jpg", "right": "2.jpg"},
            "data: the fields left, right all name pictures; rename the",
        ),
        ({"image": "http://[x/0.jpg"}, "data: no field names an image"),
        ({"image": "http://x/view?id=1", "small": "1.jpg"}, "data: no field names an image, such"),
    ],
)
def test_pictures_of_a_task(workshop, capsys, data, message):
    tasks = label_studio()
    tasks[1]["data"] = data
    file = workshop.write("a.json", tasks)
    assert message in fails(workshop, capsys, "label-studio", file)


def test_the_field_image_is_preferred(workshop):
    tasks = label_studio()
    tasks[1]["data"] = {"note": "//[", "thumbnail": "2.jpg", "image": "1.jpg"}
    assert workshop.run("label-studio", workshop.write("a.json", tasks)) == 0
    assert [image["file"] for image in workshop.content()["images"]] == ["0.jpg", "1.jpg"]


def test_regions_of_two_pictures(workshop, capsys):
    """Regions of the second picture would become masks of the first."""
    percent = (np.reshape(SQUARE, (-1, 2)) / (W, H) * 100).tolist()
    results = [
        region(i, "polygonlabels", {"points": percent, "polygonlabels": ["cup"]}, to_name=name)
        for i, name in enumerate(("before", "after"))
    ]
    data = {"image": "0.jpg", "image2": "1.jpg"}
    file = workshop.write("a.json", [{"id": 1, "data": data, "annotations": [{"result": results}]}])
    message = fails(workshop, capsys, "label-studio", file)
    assert "task 1: regions in several pictures (after, before); create a task for each" in message


def test_a_ref_that_names_an_annotation_twice(workshop, capsys):
    """Otherwise, the build would refuse custom.json."""
    folder = GOLDEN["refer"](workshop)[1]
    ref = {"image_id": 7, "ann_id": [11, 11], "split": "train", "sentences": [{"sent": "cups"}]}
    (workshop.root / "refs(unc).p").unlink()
    workshop.write("refs(unc).json", [ref])
    message = fails(workshop, capsys, "refer", folder)
    assert "refs[0].ann_id: [11, 11] names an annotation twice" in message


def test_one_image_with_two_paths(workshop, capsys):
    """Different paths may name the same file."""
    for number, folder in enumerate(("ann", "bob")):
        points = [[x + 20 * number, y] for x, y in CORNERS]
        row = {"label": "cup", "description": f"cup of {folder}", "points": points}
        content = labelme([row]) | {"imagePath": "../../images/0.jpg"}
        workshop.write(f"labels/{folder}/0.json", content)
    assert workshop.run("labelme", workshop.root / "labels", "--val", "0") == 0
    assert set(workshop.result()) == {"cup of ann", "cup of bob"}
    assert "1 images of train have several entries" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["labelme", "coco"])
def test_an_import_into_the_folder_of_the_annotations(workshop, kind):
    """On the second run custom.json exists; macOS adds files such as ._0.json."""
    if kind == "labelme":
        labels(workshop, {"points": CORNERS})
        row = {"label": "cup", "description": "my cup", "points": CORNERS}
        workshop.photo("images/custom.jpg", 8)
        workshop.write("custom.json", labelme([row]) | {"imagePath": "images/custom.jpg"})
        wanted = {"cup", "my cup"}
    else:
        content = coco()
        content["annotations"][0]["caption"] = "cup"
        workshop.write("train/_annotations.coco.json", content)
        wanted = {"cup"}
    workshop.write("labels/._0.json", "\0\5\x16\7")
    workshop.write("raw/._1.json", "\0\5\x16\7")
    for _ in range(2):
        assert workshop.run(kind, workshop.root) == 0
        assert set(workshop.result()) == wanted
