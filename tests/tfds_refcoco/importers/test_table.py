"""Tables of expressions from spreadsheets and scripts; invalid ones are refused."""

import json

import pytest

from tests.tfds_refcoco.helpers import golden
from tests.tfds_refcoco.importers.test_faults import fails


def table(workshop, rows, name="e.csv"):
    """Returns the arguments to import `golden.coco()` with a table."""
    text = rows if isinstance(rows, str) else json.dumps(rows)
    file = workshop.write("instances.json", golden.coco())
    return "coco", file, "--expressions", workshop.write(name, text)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        # Because of the unclosed quote, "13,dog" would become an expression of the cup.
        (
            'ann_id,expression\n11,"the left cup\n13,dog\n',
            "e.csv: not readable CSV (unexpected end",
        ),
        ('ann_id,expression\n11,"cup\n13,"dog"\n', "e.csv: not readable CSV ("),
        (
            "ann_id,expression,Expression\n11,a,b\n",
            "two columns are named 'expression'; rename one",
        ),
        ('ann_id,expression\n"11 11",cups\n', "row 1.ann_id: [11, 11] names an annotation twice"),
        ("ann_id,expression\n1_1,cup\n", "row 1.ann_id: ['1_1'] is not an id"),
        ("image_id,expression\n7 8,cat\n", "row 1.image_id: expected one id, got [7, 8]"),
        ("image_id,expression\n ,cat\n", "row 1: no image of"),
        ("ann_id,expression\n\n", "no images to write"),
    ],
)
def test_an_invalid_csv(workshop, capsys, rows, message):
    assert message in fails(workshop, capsys, *table(workshop, rows))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('{"11": "cup", "11": "left cup"}', "e.json: the key '11' appears twice; use a list"),
        ([{"image_id": [], "text": "cat"}], "row 1: no image of"),
        ([{"image_id": [7, 8], "text": "cat"}], "row 1.image_id: expected one id, got [7, 8]"),
        ([{"ann_id": 11.0, "text": "cup"}], "row 1.ann_id: 11.0 is not an id"),
        ([{"ann_id": 11, "text": "a", "Text": "b"}], "two names differ only in case"),
        ("[" * 100_000, "e.json: not a readable JSON file (maximum recursion"),
    ],
)
def test_an_invalid_json(workshop, capsys, rows, message):
    assert message in fails(workshop, capsys, *table(workshop, rows, "e.json"))


def test_names_of_columns_in_capitals(workshop):
    """If the column `Split` were ignored, splits would be random."""
    rows = "\r\nAnn_ID,Expression,Split\r11,cup, test \r13,dog,train\r"  # line endings of old Macs
    assert workshop.run(*table(workshop, rows)) == 0
    assert {text: of[0] for text, of in workshop.result().items()} == {
        "cup": "test",
        "dog": "train",
    }


def test_null_means_no_target(workshop):
    rows = [{"ann_id": None, "image_id": 7, "text": "the cat"}, {"ann_id": 11, "text": "cup"}]
    assert workshop.run(*table(workshop, rows, "e.json"), "--val", "0") == 0
    assert {text: len(of[3]) for text, of in workshop.result().items()} == {"the cat": 0, "cup": 1}


def test_texts_of_other_columns(workshop, capsys):
    rows = "ann_id,expression,caption\n11,cup,a cup of tea\n13,dog,\n"
    assert workshop.run(*table(workshop, rows)) == 0
    note = "1 texts of other fields were ignored (choose a field with --text)"
    assert note in capsys.readouterr().out
    assert workshop.run(*table(workshop, rows), "--text", "Caption") == 0
    assert set(workshop.result()) == {"a cup of tea"}


def test_an_unknown_split(workshop, capsys):
    """A misspelled `--split` would silently have no effect."""
    rows = "ann_id,expression,split\n11,cup,test\n13,dog,train\n"
    message = fails(workshop, capsys, *table(workshop, rows), "--split", "Test=-")
    assert "--split Test=…: unknown split; available are: 'test', 'train'" in message


def test_categories_with_the_same_id(workshop, capsys):
    content = golden.coco()
    content["categories"].append({"id": 1, "name": "plate"})
    content["annotations"][0]["caption"] = "cup"
    message = fails(workshop, capsys, "coco", workshop.write("a.json", content))
    assert "categories[2].id: 1 appears twice" in message


def test_the_folder_of_the_annotations_of_coco(workshop):
    """The folder also has captions, which are not instances."""
    content = golden.coco()
    content["annotations"][0]["caption"] = "cup"
    workshop.write("annotations/instances_train.json", content)
    workshop.write("annotations/captions_train.json", {"annotations": []})
    assert workshop.run("coco", workshop.root / "annotations") == 0
    assert set(workshop.result()) == {"cup"}


def test_two_entries_of_one_image(workshop, capsys):
    content = golden.coco()
    content["images"].append(content["images"][0] | {"id": 9})
    for row in content["annotations"][:2]:
        row["caption"] = f"cup {row['id']}"
    content["annotations"][1]["image_id"] = 9
    assert workshop.run("coco", workshop.write("a.json", content), "--val", "0") == 0
    assert "1 images of train have several entries" in capsys.readouterr().out


def test_an_existing_custom_json_is_renamed(workshop, capsys):
    """It may be hand-written."""
    content = golden.coco()
    content["annotations"][0]["caption"] = "cup"
    file = workshop.write("a.json", content)
    before = workshop.write("raw/custom.json", '{"images": []}').read_bytes()
    assert workshop.run("coco", file) == 0
    note = "1 existing custom.json was renamed to custom.json.before"
    assert note in capsys.readouterr().out
    assert (workshop.out / "custom.json.before").read_bytes() == before
    assert workshop.run("coco", file) == 0  # unchanged content
    assert note not in capsys.readouterr().out
    assert (workshop.out / "custom.json.before").read_bytes() == before


def test_images_without_sentences_may_be_missing(workshop):
    """Users may have COCO's annotations with only some of its photos."""
    content = golden.coco()
    content["annotations"][0]["caption"] = "cup"
    (workshop.root / "images/1.jpg").unlink()
    assert workshop.run("coco", workshop.write("a.json", content)) == 0
    assert set(workshop.result()) == {"cup"}


def test_empty_cells(workshop, capsys):
    rows = "ann_id,expression\n11,-\n12,cup\n13,...\n"
    assert workshop.run(*table(workshop, rows)) == 0
    assert set(workshop.result()) == {"cup"}
    assert "2 sentences without words were skipped" in capsys.readouterr().out


def test_a_split_with_an_equals_sign(workshop):
    rows = "ann_id,expression,split\n11,cup,a=b\n"
    assert workshop.run(*table(workshop, rows), "--split", "a=b=val") == 0
    assert workshop.result()["cup"][0] == "val"
