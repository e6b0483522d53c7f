"""The command `expressions`: its output and its errors."""

import json
import re
import unicodedata

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import tfds_refcoco
from tests.tfds_refcoco.expressions.reading import KINDS
from tests.tfds_refcoco.helpers.trees import contents
from tfds_refcoco.__main__ import main
from tfds_refcoco.errors import DataError
from tfds_refcoco.expressions.words import make_vocabulary, plural
from tfds_refcoco.expressions.write import generate_expressions

SIZE = (80, 60)
CATEGORIES = [{"id": 1, "name": "cup"}, {"id": 2, "name": "Traffic_Cone"}]


def box(x, y, w, h):
    return [[x, y, x + w, y, x + w, y + h, x, y + h]]


def row(number, image_id, category_id, segmentation, iscrowd=0):
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": segmentation,
        "iscrowd": iscrowd,
    }


@pytest.fixture
def coco(tmp_path):
    """Twelve pictures of two cups and a cone; the first has none, the last two are equal."""
    images, annotations = [], []
    (tmp_path / "photos/deep").mkdir(parents=True)
    for i in range(12):
        name = f"deep/{i}.jpg"
        pixels = np.full((SIZE[1], SIZE[0], 3), 20 * min(i, 10), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / name)
        images.append({"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        if i:
            annotations += [
                row(10 * i, i, 1, box(5, 20, 15, 20)),
                row(10 * i + 1, i, 1, box(55, 20, 15, 20)),
                row(10 * i + 2, i, 2, box(60, 45, 12, 12)),
            ]
    content = {"images": images, "annotations": annotations, "categories": CATEGORIES}

    def write(change=lambda content: None):
        change(content)
        (tmp_path / "instances.json").write_text(json.dumps(content))
        return tmp_path / "instances.json"

    return write


def generate(coco, tmp_path, name="raw", **options):
    made = generate_expressions(
        coco, tmp_path / "photos", tmp_path / name, progress=False, **options
    )
    return json.loads(made.path.read_text()), made


def texts(content):
    return {
        image["id"]: [
            (s["text"], image["objects"][s["objects"][0]]["id"]) for s in image["sentences"]
        ]
        for image in content["images"]
    }


def test_custom_json_is_written_and_builds(coco, tmp_path, capsys):
    arguments = ["--coco", str(coco()), "--images", str(tmp_path / "photos")]
    assert main(["expressions", *arguments, "--out", str(tmp_path / "raw")]) == 0
    printed = capsys.readouterr().out
    assert "words per sentence" in printed and str(tmp_path / "raw/custom.json") in printed
    content = json.loads((tmp_path / "raw/custom.json").read_text())
    assert content["image_dir"] == str(tmp_path / "photos/deep")
    assert not list((tmp_path / "raw").glob("**/*.jpg"))  # referenced, not copied
    tfds_refcoco.build("custom", tmp_path / "out", tmp_path / "raw", progress=False)
    built = tfds_refcoco.open_dataset(tmp_path / "out", "custom")
    assert set(built.splits) == {"train", "val"}
    index = built.split("train+val").index
    kinds = {re.split("[:,]", kind)[0] for kind in index.kind}
    assert kinds <= KINDS - {"colour"} and "side" in kinds  # the pictures are gray
    assert set(index.category) == {"cup", "Traffic_Cone"}
    for category, count in zip(index.category, index.same_category, strict=True):
        assert count == {"cup": 2, "Traffic_Cone": 1}[category]
    for text, category in zip(index.text, index.category, strict=True):
        assert ("traffic cone" in text) or category == "cup"


def test_output_depends_on_the_seed(coco, tmp_path):
    path = coco()
    one, _ = generate(path, tmp_path, "one")
    again, _ = generate(path, tmp_path, "again")
    other, _ = generate(path, tmp_path, "other", seed=1)
    assert contents(tmp_path / "one") == contents(tmp_path / "again") and one == again
    assert texts(one) != texts(other)


def test_sentences_do_not_depend_on_other_images(coco, tmp_path):
    content, _ = generate(coco(), tmp_path)

    def less(content):
        content["images"] = content["images"][:8]
        content["annotations"] = [a for a in content["annotations"] if a["image_id"] < 8]

    fewer, _ = generate(coco(less), tmp_path, "fewer")
    splits = [{i["id"]: i["split"] for i in c["images"]} for c in (content, fewer)]
    same = [i for i in splits[1] if splits[0][i] == splits[1][i]]
    assert same and all(texts(content)[i] == texts(fewer)[i] for i in same)


@pytest.mark.parametrize("seed", range(4))
def test_splits_are_by_picture(coco, tmp_path, seed):
    content, made = generate(coco(), tmp_path, seed=seed, val=0.3)
    split = {image["id"]: image["split"] for image in content["images"]}
    assert split[10] == split[11]  # the same bytes
    assert made.images["val"] in (3, 4) and sum(made.images.values()) == 11
    held_back = [
        image["split"]
        for image in content["images"]
        for sentence in image["sentences"]
        if sentence["kind"].endswith(", new wording")
    ]
    assert set(held_back) == {"val"}


def test_crowds_and_tiny_objects_are_rivals_but_not_referents(coco, tmp_path):
    def change(content):
        for image in range(1, 12):
            x = 30 if image % 2 else 2  # a crowd between the cups, or left of them
            rle = {"size": SIZE[::-1], "counts": [60 * x + 5, 10, 60 * 80 - 60 * x - 15]}
            content["annotations"].append(row(10 * image + 5, image, 1, rle, 1))
            content["annotations"].append(row(10 * image + 6, image, 1, box(75, 3, 2, 2)))

    content, made = generate(coco(change), tmp_path)
    assert made.notes.startswith("11 crowds (iscrowd) were skipped")
    for image in content["images"]:
        assert not {item["id"] % 10 for item in image["objects"]} & {5, 6}
        cups = [item for item in image["objects"] if item["category"] == "cup"]
        assert all(
            item["same_category"] == 3 for item in cups
        )  # including the tiny one but no crowds
        for text, ann_id in texts(content)[image["id"]]:
            # If the crowd is on the left, a member may be farther left.
            assert not (ann_id % 10 == 0 and "left" in text and image["id"] % 2 == 0), text


def test_custom_nouns(coco, tmp_path):
    (tmp_path / "words.json").write_text('{"Traffic_Cone": ["pylon"], "cup": ["mug"]}')
    content, _ = generate(coco(), tmp_path, words=tmp_path / "words.json")
    joined = " ".join(text for of_image in texts(content).values() for text, _ in of_image)
    assert "pylon" in joined and "mug" in joined and "cup" not in joined
    for faulty, message in (
        ('{"dog": ["dog"]}', "unknown category 'dog'; expected one of Traffic_Cone, cup"),
        ('{"cup": "mug"}', "cup: expected list, got str"),
        ('{"cup": [" "]}', "expected a list of nouns"),
        ("[1]", "expected {"),
    ):
        (tmp_path / "words.json").write_text(faulty)
        with pytest.raises(DataError, match=message):
            generate(coco(), tmp_path, words=tmp_path / "words.json")


def test_categories_of_nouns():
    vocabulary = make_vocabulary(["bicycle", "motorcycle", "car", "truck", "fire_hydrant"])
    assert vocabulary.denotes["bike"] == {"bicycle", "motorcycle"}
    assert "truck" in vocabulary.denotes["car"] and "truck" not in vocabulary.names["car"]
    assert vocabulary.names["fire_hydrant"] == ("fire hydrant", "hydrant")
    assert [plural(noun) for noun in ("bus", "wine glass", "knife", "kitty", "tv", "skis")] == [
        *("buses", "wine glasses", "knives", "kitties", "tvs", "skis")
    ]


def test_a_noun_includes_its_compounds():
    """A custom category "police car" is a car, but COCO's "hot dog" is not a dog."""
    names = ["car", "police_car", "cone", "cones", "hot dog", "dog", "person", "man"]
    vocabulary = make_vocabulary(names)
    assert {"car", "police_car"} <= vocabulary.denotes["car"]
    assert vocabulary.denotes["police car"] == {"police_car"}
    assert vocabulary.denotes["cone"] == {"cone", "cones"}
    assert vocabulary.denotes["dog"] == {"dog"}
    assert "man" in vocabulary.denotes["person"]


def test_ids_too_large_for_views(coco, tmp_path):
    file = coco(lambda c: [row.update(id=row["id"] + 9 * 10**17) for row in c["annotations"]])
    assert generate(file, tmp_path)[1].sentences
    with pytest.raises(DataError, match="its ids are too large to number views"):
        generate(file, tmp_path, views=9)


def test_masks_as_lists_of_rles(coco, tmp_path):
    """RRSIS-D uses them, and `import` accepts them."""
    whole, _ = generate(coco(), tmp_path)

    def encode(content):
        for row in content["annotations"]:
            rle = coco_mask.frPyObjects(row["segmentation"], SIZE[1], SIZE[0])[0]
            row["segmentation"] = [rle | {"counts": rle["counts"].decode()}]

    assert generate(coco(encode), tmp_path)[0] == whole


def test_a_category_without_a_name(coco, tmp_path):
    with pytest.raises(DataError, match="categories: a name is empty"):
        generate(coco(lambda c: c.update(categories=[{"id": 1, "name": " "}])), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"][3].update(file_name="gone.jpg"), "1 images .* missing .*gone.jpg"),
        (lambda c: c["images"][3].update(width=81), "image id 3: annotated for 81x60 pixels"),
        (lambda c: c["annotations"][0].update(image_id=99), r"annotations\[0\].image_id: no image"),
        (lambda c: c["annotations"][0].update(category_id=9), "category_id: 9 is not among"),
        (lambda c: c["annotations"][0].pop("segmentation"), r"segmentation: the field is missing"),
        (lambda c: c["annotations"][0].update(segmentation=[]), "a box has no mask; add a mask"),
        (lambda c: c["annotations"][0].update(segmentation=[[1, 2]]), "at least three points"),
        (lambda c: c.update(annotations=[]), "no images to write"),
    ],
)
def test_invalid_input_is_reported(coco, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        generate(coco(change), tmp_path)


def test_two_images_that_resolve_to_one_file(coco, tmp_path):
    """Image names without their folders."""

    def change(content):
        for image, folder in zip(content["images"][3:5], "ab", strict=True):
            image["file_name"] = f"{folder}/3.jpg"

    path = coco(change)
    (tmp_path / "photos/deep/3.jpg").rename(tmp_path / "photos/3.jpg")
    with pytest.raises(
        DataError, match=r"'a/3.jpg' and 'b/3.jpg' both resolve to the file .*/3.jpg"
    ):
        generate(path, tmp_path)


@pytest.mark.parametrize(("disk", "text"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_names_in_another_unicode_form(coco, tmp_path, capfd, disk, text):
    path = coco()
    content = json.loads(path.read_text())
    photo = content["images"][1]
    new = "é.jpg"
    photos = tmp_path / "photos"
    (photos / photo["file_name"]).rename(photos / unicodedata.normalize(disk, new))
    photo["file_name"] = unicodedata.normalize(text, new)
    path.write_text(json.dumps(content))
    flags = ["--coco", str(path), "--images", str(photos), "--out", str(tmp_path / "raw")]
    assert main(["expressions", *flags]) == 0
    assert "\\r" not in capfd.readouterr().err  # the progress bar moves the cursor


def test_invalid_flags(coco, tmp_path, capsys):
    path = coco()
    with pytest.raises(DataError, match="val: 1"):
        generate(path, tmp_path, val=1)
    arguments = ["expressions", "--coco", str(tmp_path / "no.json"), "--images", "x", "--out", "y"]
    assert main(arguments) == 1
    assert "no.json: no such file" in capsys.readouterr().err
