"""The synthetic raw dataset can be read by the builder's strict reader."""

import json
import pickle

import cv2
import numpy as np
import pytest

import tfds_refcoco
from benchmarks import synthetic_raw
from benchmarks.published_splits import RawSet, RawSplit, read_sets
from tfds_refcoco.raw.read import read_raw
from tfds_refcoco.records.joint import Kept, open_datasets


@pytest.fixture(scope="module")
def raw(test_data, tmp_path_factory):
    out = tmp_path_factory.mktemp("synthetic") / "raw"
    arguments = ["--photos", str(test_data / "coco_photos"), "--images", "200"]
    assert synthetic_raw.main([*arguments, "--sentences", "1420", "--out", str(out)]) == 0
    return out


def test_every_split_reads_as_refcoco(raw, test_data):
    splits = read_raw(raw, "refcoco_unc")
    assert {name: len(images) for name, images in splits.items()} == {
        "train": 171,
        "val": 15,
        "testA": 7,
        "testB": 7,
    }
    images = [image for of_split in splits.values() for image in of_split]
    sentences = [sentence for image in images for sentence in image.sentences]
    assert len({s.sent_id for s in sentences}) == len(sentences) == 1420
    assert len({s.ref_id for s in sentences}) == 500
    assert {len(image.objects) for image in images} == {2, 3}
    texts = "".join((test_data / "refcoco_unc" / f).read_text() for f in synthetic_raw.TEXT_FILES)
    assert all(json.dumps(s.sent) in texts for s in sentences)
    # The image matches its annotations.
    photos = json.loads((test_data / "coco_photos" / "instances.json").read_text())
    by_shape = {json.dumps(row["segmentation"]): row["image_id"] for row in photos["annotations"]}
    names = {row["id"]: row["file_name"] for row in photos["images"]}
    for image in images[::8]:
        photo = by_shape[json.dumps(image.objects[0].segmentation)]
        original = test_data / "coco_photos" / "images" / names[photo]
        np.testing.assert_array_equal(cv2.imread(image.file.path), cv2.imread(original))
    assert len({image.file.path.read_bytes() for image in images}) == 200


def test_refs_have_the_fields_of_the_real_ones(raw, mini_refcoco):
    made, real = (
        pickle.loads((folder / "refcoco" / "refs(unc).p").read_bytes())
        for folder in (raw, mini_refcoco)
    )
    assert (raw / "refcoco" / "refs(unc).p").read_bytes()[:2] == b"\x80\x02"  # protocol 2

    def layout(ref):
        sentence = {name: type(value) for name, value in ref["sentences"][0].items()}
        return {name: type(value) for name, value in ref.items()} | {"sentences": sentence}

    assert layout(made[0]) == layout(real[0])
    for ref in made:
        assert ref["sent_ids"] == [sentence["sent_id"] for sentence in ref["sentences"]]
        assert ref["file_name"] == f"COCO_train2014_{ref['image_id']:012d}_{ref['ann_id']}.jpg"


def test_non_empty_folder_is_rejected(raw, test_data, capsys):
    photos = str(test_data / "coco_photos")
    assert synthetic_raw.main(["--photos", photos, "--out", str(raw)]) == 1
    assert "not empty" in capsys.readouterr().err


def test_the_published_sets_leave_out_what_each_other_holds_out(test_data, tmp_path):
    """Uses some images of the published lists that two datasets train on or hold out."""
    if not (test_data / "splits").is_dir():
        pytest.skip(f"no {test_data / 'splits'}")
    sets = read_sets(test_data / "splits")
    train, held_out = {}, {}
    for of in sets:
        train[of.folder] = set(of.splits["train"].ids)
        held_out[of.folder] = {i for k, v in of.splits.items() if k != "train" for i in v.ids}
        assert not train[of.folder] & held_out[of.folder]
    assert len(held_out["refcocog"]) == 3_900
    assert len(train["refcocog"] & held_out["refcoco"]) == 1_860
    chosen = [train["refcocog"] & held_out["refcoco"], train["refcoco"] & held_out["refcocog"]]
    chosen += [train["refcoco"] & train["refcocog"], held_out["refcocog"] - held_out["refcoco"]]
    images = {i for of in chosen for i in sorted(of)[:5]}
    small = []
    for of in sets:
        ids = {name: sorted(images & set(split.ids)) for name, split in of.splits.items()}
        splits = {k: RawSplit(v, 2 * len(v), 4 * len(v)) for k, v in ids.items() if v}
        small.append(RawSet(of.folder, of.file, splits))
    photos = test_data / "coco_photos"
    synthetic_raw.write_sets(photos, test_data / "refcoco_unc", tmp_path / "raw", small)
    names = ("refcoco_unc", "refcocoplus_unc", "refcocog_umd")
    for name in names:
        tfds_refcoco.build(name, tmp_path / "data", tmp_path / "raw", progress=False)
    everything = set().union(*held_out.values())
    kept = open_datasets(tmp_path / "data", "+".join(names)).kept
    for name, ids in zip(names, train.values(), strict=True):
        dropped, left = len(images & ids & everything), len((images & ids) - everything)
        assert dropped >= 5 and left >= 4
        assert kept[name] == Kept(left, 4 * left, dropped, 4 * dropped, 0)
