"""RefCOCO's sentences through the complete pipeline: reader, records, index, tokenizer."""

import json
import os
import pickle

import pytest
from PIL import Image

import tfds_refcoco
from lts_jax.data.vocabulary import Vocabulary
from tfds_refcoco.records.text import tokenize

SIZE = {"width": 64, "height": 48}
PUBLISHED = {
    "val": (10_834, 3_811, 1_500),
    "testA": (5_657, 1_975, 750),
    "testB": (5_095, 1_810, 750),
}


@pytest.fixture
def built(test_data, tmp_path):
    """The dataset built from the published refs, with one dummy picture and mask for all."""
    root = tmp_path
    (root / "raw/refcoco").mkdir(parents=True)
    (root / "raw/images/train2014").mkdir(parents=True)
    refs, images, annotations = [], {}, {}
    for split in PUBLISHED:
        path = test_data / "refcoco_unc" / f"{split}.json"
        if not path.is_file():
            pytest.skip(f"no {path}")
        for ref in json.loads(path.read_text()):
            name = f"COCO_train2014_{ref['image_id']:012d}.jpg"
            images[ref["image_id"]] = {"id": ref["image_id"], "file_name": name, **SIZE}
            annotations[ref["ann_id"]] = {
                "id": ref["ann_id"],
                "image_id": ref["image_id"],
                "category_id": 1,
                "bbox": [8, 8, 16, 16],
                "area": 256,
                "segmentation": [[8, 8, 24, 8, 24, 24, 8, 24]],
                "iscrowd": 0,
            }
            sentences = [
                s | {"raw": s["sent"], "tokens": s["sent"].split()} for s in ref["sentences"]
            ]
            refs.append(ref | {"sentences": sentences, "category_id": 1})
    (root / "raw/refcoco/refs(unc).p").write_bytes(pickle.dumps(refs, 2))
    content = {
        "images": list(images.values()),
        "annotations": list(annotations.values()),
        "categories": [{"id": 1, "name": "thing"}],
    }
    (root / "raw/refcoco/instances.json").write_text(json.dumps(content))
    picture = root / "picture.jpg"
    Image.new("RGB", tuple(SIZE.values()), "gray").save(picture)
    for row in images.values():
        os.link(picture, root / "raw/images/train2014" / row["file_name"])
    tfds_refcoco.build("refcoco_unc", root / "out", root / "raw", progress=False)
    return tfds_refcoco.open_dataset(root / "out", "refcoco_unc")


# A single test, because each worker of a parallel run would build the dataset again.
@pytest.mark.slow
def test_counts_lengths_and_texts_equal_the_published_ones(built, test_data):
    for name, numbers in PUBLISHED.items():
        split = built.split(name)
        assert (split.counts.sentences, split.counts.refs, split.counts.images) == numbers
        refs = json.loads((test_data / "refcoco_unc" / f"{name}.json").read_text())
        published = {s["sent_id"]: s["sent"] for ref in refs for s in ref["sentences"]}
        texts = dict(zip(split.index.sent_id.tolist(), split.index.text, strict=True))
        assert texts == published

    texts = built.split("val+testA+testB").index.text
    assert len(texts) == 21_586
    assert sum(len(tokenize(text)) > 15 for text in texts) == 22
    vocabulary = Vocabulary.build(texts)
    lengths = [vocabulary.encode(text, 20)[1] for text in texts]
    assert sum(length > 15 for length in lengths) == 22
    assert max(vocabulary.encode(text, 15)[1] for text in texts) == 15 and min(lengths) == 1
