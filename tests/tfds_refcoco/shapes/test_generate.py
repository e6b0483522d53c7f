import re
import subprocess
from collections import Counter, defaultdict

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

import tfds_refcoco
from tfds_refcoco.errors import DataError
from tfds_refcoco.shapes import DEFAULT_SCENES, generate, processes
from tfds_refcoco.shapes.render import HSV, coverage, render
from tfds_refcoco.shapes.sample import sample
from tfds_refcoco.shapes.scene import GAP, SHAPES, Scene

SMALL = {"train": 3, "val": 2, "testA": 2, "testB": 2}


def files(directory):
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def test_output_depends_only_on_the_seed(tmp_path):
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        generate(tmp_path / name, seed=seed, progress=False, scenes=SMALL)
    a, b, c = (files(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)


def test_an_interrupted_run_leaves_no_old_annotations(tmp_path, monkeypatch):
    """Otherwise, older annotations could be built with newer pictures."""
    generate(tmp_path, seed=1, progress=False, scenes=SMALL)
    made, real = [], processes.make_scene

    def killed(*arguments):
        if len(made) == 4:
            raise KeyboardInterrupt
        made.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(processes, "make_scene", killed)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, seed=2, progress=False, scenes=SMALL)
    with pytest.raises(DataError, match=r"instances\.json not found"):
        tfds_refcoco.build("shapes", tmp_path / "out", tmp_path, progress=False)
    monkeypatch.undo()
    generate(tmp_path, seed=2, progress=False, scenes=SMALL)
    generate(tmp_path / "whole", seed=2, progress=False, scenes=SMALL)
    whole = files(tmp_path / "whole")
    assert {name: data for name, data in files(tmp_path).items() if name in whole} == whole


def test_a_scene_does_not_depend_on_the_number_of_scenes(tmp_path):
    generate(tmp_path / "few", progress=False, scenes={"val": 1})
    generate(tmp_path / "more", progress=False, scenes=SMALL)
    few, more = files(tmp_path / "few"), files(tmp_path / "more")
    (image,) = (name for name in few if name.endswith(".jpg"))
    assert few[image] == more[image]


def test_several_processes_write_the_same_bytes(tmp_path, monkeypatch):
    generate(tmp_path / "one", progress=False, scenes=SMALL)
    started, start = [], subprocess.Popen
    monkeypatch.setattr(processes, "_ENOUGH", 3)
    monkeypatch.setattr(processes, "_cores", lambda: 8)
    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **k: started.append(start(*a, **k)) or started[-1]
    )
    generate(tmp_path / "three", progress=False, scenes=SMALL)
    assert len(started) == 3
    assert all(process.poll() is not None for process in started)
    assert files(tmp_path / "one") == files(tmp_path / "three")


def test_a_failed_worker_is_reported(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(processes, "_ENOUGH", 3)
    monkeypatch.setattr(processes, "_cores", lambda: 2)
    # A folder has the name of the first image.
    (tmp_path / "images/train2014/COCO_train2014_000001000001.jpg").mkdir(parents=True)
    with pytest.raises(OSError, match="images/train2014: a worker process failed"):
        generate(tmp_path, progress=False, scenes=SMALL)
    assert "IsADirectoryError" in capfd.readouterr().err
    assert not (tmp_path / "shapes").exists()


def test_unknown_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match="test"):
        generate(tmp_path, progress=False, scenes={"test": 1})
    assert set(DEFAULT_SCENES) == {"train", "val", "testA", "testB"}


def test_refs_have_the_fields_of_refcoco(raw):
    images = {image["id"]: image for image in raw.instances["images"]}
    annotations = {annotation["id"]: annotation for annotation in raw.instances["annotations"]}
    sent_ids = []
    assert [ref["ref_id"] for ref in raw.refs] == list(range(len(raw.refs)))
    for ref in raw.refs:
        assert set(ref) == {
            *("ref_id", "ann_id", "image_id", "category_id", "split", "file_name"),
            *("sent_ids", "sentences"),
        }
        annotation = annotations[ref["ann_id"]]
        assert annotation["image_id"] == ref["image_id"]
        assert annotation["category_id"] == ref["category_id"]
        stem = images[ref["image_id"]]["file_name"].removesuffix(".jpg")
        assert ref["file_name"] == f"{stem}_{ref['ann_id']}.jpg"
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
        sent_ids += ref["sent_ids"]
        for sentence in ref["sentences"]:
            assert set(sentence) == {"sent_id", "sent", "raw", "kind", "tokens"}
            assert re.fullmatch(r"[a-z0-9]+( [a-z0-9]+)*", sentence["sent"])
            assert sentence["tokens"] == sentence["sent"].split()
            assert sentence["raw"].lower().removesuffix(".") == sentence["sent"]
    assert sent_ids == list(range(len(sent_ids)))
    raws = {sentence["raw"] for ref in raw.refs for sentence in ref["sentences"]}
    assert any(r.endswith(".") for r in raws) and any(r[0].isupper() for r in raws)


def test_the_pickle_is_protocol_2_and_plain(raw):
    data = (raw.directory / "shapes" / "refs(unc).p").read_bytes()
    assert data[:2] == b"\x80\x02"
    assert b"numpy" not in data and b"tfds_refcoco" not in data


def test_images_match_instances(raw):
    assert set(raw.instances) == {"info", "licenses", "images", "annotations", "categories"}
    assert len(raw.instances["categories"]) == len(SHAPES)
    listed = {image["file_name"] for image in raw.instances["images"]}
    folder = raw.directory / "images" / "train2014"
    assert listed == {path.name for path in folder.iterdir()}
    assert len(listed) == len(raw.instances["images"])
    for image in raw.instances["images"]:
        assert image["file_name"] == f"COCO_train2014_{image['id']:012d}.jpg"
        pixels = cv2.imread(str(folder / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)
    assert sum(image["width"] != image["height"] for image in raw.instances["images"]) > 100


def test_splits_share_no_image_and_differ_as_documented(raw):
    splits = defaultdict(set)
    for ref in raw.refs:
        splits[ref["image_id"]].add(ref["split"])
    assert all(len(of_image) == 1 for of_image in splits.values())
    counts = Counter(annotation["image_id"] for annotation in raw.instances["annotations"])
    objects = defaultdict(set)
    for image_id, (split,) in splits.items():
        objects[split].add(counts[image_id])
    assert objects["train"] == {3, 4, 5, 6, 7} == objects["val"]
    assert objects["testA"] == {3, 4}
    assert objects["testB"] == {6, 7}


def test_objects_are_inside_and_disjoint(raw):
    boxes = defaultdict(list)
    sizes = {image["id"]: (image["width"], image["height"]) for image in raw.instances["images"]}
    for annotation in raw.instances["annotations"]:
        assert annotation["iscrowd"] == 0
        (flat,) = annotation["segmentation"]
        points = np.reshape(flat, (-1, 2))
        low, high = points.min(0), points.max(0)
        np.testing.assert_allclose(annotation["bbox"], [*low, *(high - low)], atol=0.011)
        assert (low > 0).all() and (high < sizes[annotation["image_id"]]).all()
        width, height = sizes[annotation["image_id"]]
        # The largest object, a circle of diameter 0.46 in a square image, covers 0.17 of it.
        assert 0.005 < annotation["area"] / (width * height) < 0.18
        boxes[annotation["image_id"]].append((low, high))
    for of_image in boxes.values():
        for number, (low, high) in enumerate(of_image):
            for other_low, other_high in of_image[:number]:
                gap = np.maximum(low - other_high, other_low - high).max()
                assert gap > GAP - 0.05


def test_sentence_lengths_match_refcoco(raw):
    sentences = [ref["sentences"] for ref in raw.refs]
    words = [len(sentence["tokens"]) for of_ref in sentences for sentence in of_ref]
    assert 3.0 <= np.mean(words) <= 4.5
    assert 1.7 <= np.mean([len(of_ref) for of_ref in sentences]) <= 2.3
    assert {len(of_ref) for of_ref in sentences} == {1, 2, 3}
    assert 2.0 <= len(raw.refs) / len(raw.instances["images"]) <= 3.0


def test_referents_are_spread_over_the_objects(raw):
    """Without the sentence, no simple rule finds the referent much more often than chance."""
    objects = defaultdict(list)
    for annotation in raw.instances["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    rules = {
        "biggest": lambda a: a["area"],
        "smallest": lambda a: -a["area"],
        "leftmost": lambda a: -a["bbox"][0],
        "rightmost": lambda a: a["bbox"][0] + a["bbox"][2],
        "topmost": lambda a: -a["bbox"][1],
        "lowest": lambda a: a["bbox"][1] + a["bbox"][3],
        "first": lambda a: -a["id"],
    }
    chance = np.mean([1 / len(objects[ref["image_id"]]) for ref in raw.refs])
    for name, rule in rules.items():
        hits = [max(objects[ref["image_id"]], key=rule)["id"] == ref["ann_id"] for ref in raw.refs]
        assert np.mean(hits) < chance + 0.06, name


def test_polygons_match_the_rendered_objects(raw):
    """A polygon rasterized by pycocotools covers the pixels that drawing the object changes."""
    annotations = defaultdict(list)
    for annotation in raw.instances["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    overlaps = []
    for number in range(40):
        rng = np.random.default_rng([3, 0, number])
        scene, _ = sample(rng, "train")
        empty = Scene(scene.width, scene.height, ())
        state = rng.bit_generator.state
        # Noise and light differ, because objects also use the rng, so the threshold is above both.
        full = render(rng, scene).astype(float)
        rng.bit_generator.state = state
        changed = np.abs(full - render(rng, empty)).max(-1)
        for annotation in annotations[1_000_000 + number]:
            rle = coco_mask.frPyObjects(annotation["segmentation"], scene.height, scene.width)
            drawn = coco_mask.decode(coco_mask.merge(rle)).astype(bool)
            x, y, w, h = annotation["bbox"]
            window = np.zeros_like(drawn)
            window[int(y) : int(y + h) + 1, int(x) : int(x + w) + 1] = True
            seen = (changed > 45) & window
            overlaps.append((drawn & seen).sum() / (drawn | seen).sum())
    assert np.median(overlaps) > 0.9


def test_coverage_agrees_with_pycocotools():
    rng = np.random.default_rng(0)
    for _ in range(20):
        scene, _ = sample(rng, "train")
        width, height = scene.width, scene.height
        for thing in scene.things:
            large = coverage(thing.polygon, (0, 0), (width, height))
            drawn = cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA) > 127
            rle = coco_mask.frPyObjects([thing.polygon.ravel().tolist()], height, width)
            wanted = coco_mask.decode(coco_mask.merge(rle)).astype(bool)
            assert (drawn & wanted).sum() / (drawn | wanted).sum() > 0.88
            assert drawn.sum() == pytest.approx(thing.area, rel=0.08)


def test_colours_in_the_file_are_the_ones_named(raw):
    """The most common hue (or lack of hue) inside an object is that of its colour."""
    for number in range(60):
        scene, _ = sample(np.random.default_rng([3, 0, number]), "train")
        path = (
            raw.directory / "images" / "train2014" / f"COCO_train2014_{1_000_000 + number:012d}.jpg"
        )
        hsv = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2HSV)
        for thing in scene.things:
            if thing.texture != "solid":
                continue
            mask = np.zeros(hsv.shape[:2], np.uint8)
            cv2.fillPoly(mask, [thing.polygon.astype(np.int32)], 255)
            inside = np.median(hsv[cv2.erode(mask, np.ones((5, 5))) > 0], 0)
            hue, saturation, value = inside * (2, 1 / 255, 1 / 255)
            if thing.colour == "white":
                assert saturation < 0.2 and value > 0.75
            elif thing.colour == "black":
                assert value < 0.25
            else:
                distance = {
                    colour: abs((hue - centre[0] + 180) % 360 - 180)
                    for colour, (centre, _) in HSV.items()
                    if colour not in ("white", "black")
                }
                assert min(distance, key=distance.get) == thing.colour
                assert saturation > 0.5 and value > 0.4
