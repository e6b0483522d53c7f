"""Invalid fields in any format cause a one-line error that names the file and field."""

import json
import os
import pickle
import unicodedata
from pathlib import Path

import pytest

from tests.tfds_refcoco.helpers.annotations import cvat, label_studio
from tests.tfds_refcoco.importers.conftest import SIZE

W, H = SIZE


def coco():
    return {
        "images": [{"id": 7, "file_name": "0.jpg", "width": W, "height": H}],
        "categories": [{"id": 1, "name": "cup"}],
        "annotations": [
            {
                "id": 11,
                "image_id": 7,
                "category_id": 1,
                "segmentation": [[1, 1, 9, 1, 9, 9]],
                "caption": "cup",
            }
        ],
    }


def fails(workshop, capsys, *arguments):
    assert workshop.run(*arguments) == 1
    error = capsys.readouterr().err.splitlines()
    message = [line for line in error if line.startswith("error: ")]
    assert len(message) == 1 and "Traceback" not in "".join(error)
    assert not (workshop.out / "custom.json").exists()
    return message[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["images"][0].update(file_name="9.jpg"),
            "image id 7: image '9.jpg' is not",
        ),
        (lambda c: c["images"][0].update(width=W + 1), f"annotated for {W + 1}x{H} pixels"),
        (lambda c: c["annotations"][0].update(image_id=9), "annotations[0].image_id: no image"),
        (lambda c: c["annotations"][0].update(category_id=0), "0 is not among the category ids"),
        (
            lambda c: c["annotations"][0].update(segmentation=[]),
            "no images to write; 1 sentences about objects with a box but no mask were skipped",
        ),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2]]), "at least three points"),
        (lambda c: c["annotations"][0].update(caption=5), "caption: expected a string or a list"),
        (lambda c: c["annotations"][0].pop("caption"), "no annotation has a field expression or"),
        (
            lambda c: c["annotations"][0].update(segmentation={"size": [H, W], "counts": [3]}),
            "annotations[0]: RLE counts: the runs cover 3 pixels",
        ),
    ],
)
def test_coco(workshop, capsys, change, message):
    content = coco()
    change(content)
    assert message in fails(workshop, capsys, "coco", workshop.write("a.json", content))


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("e.csv", "ann_id,expression\n12,cup\n", "row 1: no annotation of"),
        ("e.csv", "ann_id,expression\nx,cup\n", "row 1.ann_id: ['x'] is not an id"),
        ("e.csv", "id,words\n11,cup\n", "row 1: expected the columns ann_id (or image_id"),
        ("e.json", [{"image_id": 8, "text": "a"}], "row 1: no image of"),
        ("e.json", [{"ann_id": 11, "image_id": 8, "text": "a"}], "annotation 11 belongs to"),
        ("e.json", [{"ann_id": 11, "text": 4}], "row 1.text: expected a string or a list"),
        ("e.json", [3], "row 1: expected a dictionary"),
        ("e.json", "x", "expected a list, or a dictionary by annotation id"),
        ("e.json", [{"ann_id": 11, "text": "a", "split": "dev2"}], "unknown split 'dev2'"),
        ("e.json", [], "no images to write"),
        ("e.csv", "ann_id,expression\n11,cup, the left one\n", "row 1: more values than columns"),
        ("e.csv", "ann_id,expression\n11\n", "1 rows without expressions were skipped"),
    ],
)
def test_expressions(workshop, capsys, name, rows, message):
    rows = rows if name.endswith("csv") else json.dumps(rows)
    arguments = ("coco", workshop.write("a.json", coco()), "--expressions")
    assert message in fails(workshop, capsys, *arguments, workshop.write(name, rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ref: ref.update(image_id=9), "refs[0].image_id: 9 is not in"),
        (lambda ref: ref.update(ann_id=9), "refs[0].ann_id: 9 is not an annotation of image 7"),
        (lambda ref: ref.pop("split"), "refs[0].split: the field is missing"),
        (lambda ref: ref.update(sentences=[{"sent": " "}]), "sentences[0].sent: the sentence is"),
    ],
)
def test_refer(workshop, capsys, change, message):
    workshop.write("instances.json", coco())
    ref = {"image_id": 7, "ann_id": 11, "split": "train", "sentences": [{"sent": "cup"}]}
    change(ref)
    (workshop.root / "refs(me).p").write_bytes(pickle.dumps([ref], 2))
    assert message in fails(workshop, capsys, "refer", workshop.root)


def test_refer_without_files(workshop, capsys):
    assert "expected one refs file, got none" in fails(workshop, capsys, "refer", workshop.root)
    (workshop.root / "refs(a).p").write_bytes(pickle.dumps([], 2))
    assert "instances.json: no such file" in fails(workshop, capsys, "refer", workshop.root)
    (workshop.root / "refs(b).p").touch()
    assert "got refs(a).p, refs(b).p" in fails(workshop, capsys, "refer", workshop.root)


def labelme(**shape):
    points = [[1, 1], [9, 1], [9, 9]]
    row = {"label": "cup", "points": points, "description": "cup", "shape_type": "polygon"} | shape
    return {"shapes": [row], "imagePath": "images/0.jpg", "imageWidth": W, "imageHeight": H}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (labelme(points=[[1, "2"]]), "shapes[0].points: [1, '2'] is not a pair"),
        (labelme(points=[[1, 2]]), "shapes[0]: segmentation[0]: expected x, y pairs"),
        (labelme(shape_type="circle"), "a circle has 2 points, got 3"),
        (labelme(shape_type="rectangle"), "a rectangle has 2 or 4 points, got 3"),
        (labelme(shape_type="star"), "1 shapes of the type star were skipped: the type is"),
        (labelme(shape_type=3), "shapes[0].shape_type: expected str, got int"),
        (labelme(shape_type="mask", points=[[1, 2], [3, 4]], mask="!"), "mask: not a base64 PNG"),
        (labelme(label=3), "shapes[0].label: expected str, got int"),
        (labelme() | {"imagePath": "gone.jpg"}, "image 'gone.jpg' is not in"),
        (labelme() | {"imageWidth": 5}, f"annotated for 5x{H} pixels"),
        (labelme(description=""), "1 images without sentences were skipped. If the expressions"),
        ({"shapes": []}, "imagePath: the field is missing"),
    ],
)
def test_labelme(workshop, capsys, content, message):
    file = workshop.write("0.json", content)
    assert message in fails(workshop, capsys, "labelme", file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (cvat(rle="3,4"), "mask 3: rle: the runs cover 7 pixels, but the 20x16 mask has 320"),
        (cvat(rle="a"), "mask 3: rle: invalid literal"),
        (cvat(W="x"), "image sub/0.jpg: width: 'x' is not a number"),
        (cvat(W="nan"), "width: 'nan' is not a finite number"),
        (cvat(H="inf"), "height: 'inf' is not a finite number"),
        (cvat(W=1 << 15), "width: 32768 is not between 1 and 32,767 pixels"),
        (
            cvat(rle="1000000000000").replace('width="20" ', 'width="62500000000" '),
            "mask 3: width: '62500000000' is not a finite number",
        ),
        (cvat(H=H + 2), f"annotated for {W}x{H + 2} pixels"),
        (cvat().replace("30,25;", "30;"), "polygon 1: points: expected pairs such as"),
        (cvat().replace('xtl="40" ', ""), "box 2: the attribute xtl is missing"),
        (cvat().replace("Expression", "remark"), "attributes are: remark, quality. Specify one"),
        (cvat().replace("<image", "<track/><image", 1), "this is a video export"),
        (cvat().replace("</annotations>", ""), "not readable XML"),
        (cvat().replace("annotations", "others"), "images 1.1, got <others>"),
        (cvat().replace("<annotations>", "<!DOCTYPE a []><annotations>"), "the file has a doctype"),
    ],
)
def test_cvat(workshop, capsys, text, message):
    file = workshop.write("a.xml", text)
    assert message in fails(workshop, capsys, "cvat", file)


def test_another_attribute(workshop):
    workshop.write("annotations.xml", cvat().replace("Expression", "remark"))
    assert workshop.run("cvat", workshop.root, "--text", "Remark") == 0
    assert "cup on the left" in workshop.result()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[0]["data"].update(image="/data/x/9.jpg"), "task 1: image '9.jpg' is not"),
        (lambda t: t[0].update(data={"a": 3}), "task 1: data: no field names an image"),
        (lambda t: t[0].pop("annotations"), "task 1: no annotations; export as JSON, not"),
        (lambda t: _result(t, 0).update(image_rotation=90), "image_rotation: the picture was"),
        (lambda t: _result(t, 0).pop("original_width"), "original_width: the field is missing"),
        (
            lambda t: _result(t, 0).update(original_width=1 << 15),
            "original_width: 32768 is not between 1 and 32,767 pixels",
        ),
        (lambda t: _result(t, 0).update(original_width=9), "differs from other regions'"),
        (lambda t: _result(t, 0)["value"].update(points=[3]), "points: expected pairs"),
        (lambda t: _result(t, 2)["value"].update(width="3"), "value.width: expected"),
        (lambda t: _result(t, 4)["value"].update(format="png"), "format: expected rle, got 'png'"),
        (lambda t: _result(t, 4)["value"]["rle"].__delitem__(slice(40, None)), "ends too early"),
        (
            lambda t: _result(t, 4)["value"]["rle"].__setitem__(3, 1),
            "values, but a 60x40 image has",
        ),
        (
            lambda t: _result(t, 4)["value"]["rle"].__setitem__(3, 256),
            "expected numbers from 0 to 255",
        ),
        (lambda t: _result(t, 0).update(meta="a"), "result[0].meta: expected a dictionary"),
        (
            lambda t: _result(t, 4).update(type="bitmasklabels", value={"imageDataURL": "a.png"}),
            "value.imageDataURL: expected data:image/png;base64",
        ),
    ],
)
def test_label_studio(workshop, capsys, change, message):
    tasks = label_studio()
    change(tasks)
    file = workshop.write("a.json", tasks)
    assert message in fails(workshop, capsys, "label-studio", file)


def _result(tasks, number):
    return tasks[0]["annotations"][1]["result"][number]


def test_a_damaged_csv(workshop, capsys):
    file = workshop.write("a.json", coco())
    rows = workshop.write("a.csv", f"ann_id,expression\n11,{'a' * 200_000}\n")
    message = fails(workshop, capsys, "coco", file, "--expressions", rows)
    assert "a.csv: not readable CSV (field larger than" in message


def test_a_damaged_picture_that_needs_a_copy(workshop, capsys):
    path = workshop.photo("images/0.bmp", 0)
    path.write_bytes(path.read_bytes()[:500])
    content = coco()
    content["images"][0]["file_name"] = "0.bmp"
    file = workshop.write("a.json", content)
    assert "images/0.bmp: damaged (" in fails(workshop, capsys, "coco", file)


def test_a_folder_that_is_not_utf8(workshop, capsys):
    folder = workshop.root / os.fsdecode(b"caf\xe9")
    (workshop.root / "images").rename(folder)
    file = workshop.write("a.json", coco())
    message = fails(workshop, capsys, "coco", file, "--images", folder)
    assert "caf\\udce9: the name is not UTF-8, as custom.json requires" in message


def test_a_full_disk(workshop, capsys, monkeypatch):
    def full(self, data):
        with self.open("wb") as file:
            file.write(data[:5])
        raise OSError(28, "No space left on device")

    file = workshop.write("a.json", coco())
    monkeypatch.setattr(Path, "write_bytes", full)
    message = fails(workshop, capsys, "coco", file)
    assert "No space left" in message and "raw/custom.json" in message
    assert not list(workshop.out.iterdir())


@pytest.mark.parametrize(("disk", "text"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_in_another_unicode_form(workshop, capfd, disk, text):
    """macOS stores é as two characters, which is a different name on other systems."""
    path = workshop.root / "images" / unicodedata.normalize(disk, "é/0.jpg")
    path.parent.mkdir()
    (workshop.root / "images/0.jpg").rename(path)
    content = coco()
    content["images"][0]["file_name"] = unicodedata.normalize(text, "é/0.jpg")
    assert workshop.run("coco", workshop.write("a.json", content)) == 0
    assert "\\r" not in capfd.readouterr().err  # the progress bar moves the cursor
    content = labelme() | {"imagePath": unicodedata.normalize(text, "../images/é/0.jpg")}
    assert workshop.run("labelme", workshop.write("labels/0.json", content)) == 0


def test_flags(workshop, capsys):
    file = workshop.write("a.json", coco())
    for flags, message in (
        (("--split", "a"), "--split a: expected OLD=NEW"),
        (("--split", "a=b"), "--split a=b: expected OLD=NEW"),
        (("--val", "1"), "val: 1.0 is not a fraction"),
        (("--images", "gone"), "--images: gone is not a folder"),
    ):
        assert message in fails(workshop, capsys, "coco", file, *flags)
    assert "requires the format coco" in fails(
        workshop, capsys, "labelme", file, "--expressions", file
    )
    assert "no such file" in fails(workshop, capsys, "cvat", workshop.root / "gone.xml")
    assert "no such file" in fails(workshop, capsys, "label-studio", workshop.root)
    assert "extract the zip first" in fails(workshop, capsys, "cvat", workshop.root / "a.zip")
