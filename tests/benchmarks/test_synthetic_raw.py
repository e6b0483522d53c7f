"""The synthetic raw set, read by the builder's own strict reader."""

import json
import pickle

import pytest

from benchmarks import synthetic_raw
from tfds_refcoco.raw.read import read_raw


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
    # The picture is the one that its annotations were drawn on.
    photos = json.loads((test_data / "coco_photos" / "instances.json").read_text())
    by_shape = {json.dumps(row["segmentation"]): row["image_id"] for row in photos["annotations"]}
    names = {row["id"]: row["file_name"] for row in photos["images"]}
    for image in images:
        photo = by_shape[json.dumps(image.objects[0].segmentation)]
        original = test_data / "coco_photos" / "images" / names[photo]
        assert image.file.path.read_bytes() == original.read_bytes()


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


def test_a_folder_in_use_is_refused(raw, test_data, capsys):
    photos = str(test_data / "coco_photos")
    assert synthetic_raw.main(["--photos", photos, "--out", str(raw)]) == 1
    assert "not empty" in capsys.readouterr().err
