"""Acc@0.5 of boxes on real sentences, compared with an independent implementation."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco

import tfds_refcoco
from lts_jax.evaluation import results
from lts_jax.evaluation.external import Predictions, score


@pytest.fixture(scope="module")
def built(mini_refcoco, tmp_path_factory):
    out = tmp_path_factory.mktemp("mini")
    tfds_refcoco.build("refcoco_unc", out, mini_refcoco, progress=False)
    return tfds_refcoco.open_dataset(out, "refcoco_unc")


def test_acc_of_96_real_sentences(built, mini_refcoco, tmp_path):
    """Predictions are shifted and cropped ground truth; loops over pixels compute the boxes."""
    split = built.split("val+testA+testB")
    index, rng = split.index, np.random.default_rng(0)
    assert len(index) == 96
    instances = json.loads((mini_refcoco / "refcoco/instances.json").read_text())
    annotations = {row["id"]: row for row in instances["annotations"]}
    entries, right = [], []
    for row in range(96):
        record = split.record(int(index.record[row]))
        h, w = record["height"], record["width"]
        targets = record["targets"]
        (target,) = targets["object"][targets["sentence"] == index.sentence[row]]
        raw = annotations[int(record["objects"]["ann_id"][target])]["segmentation"]
        truth = coco.decode(coco.merge(coco.frPyObjects(raw, h, w)))
        reach = max(1, int(truth.any(0).sum() // 3))
        mask = np.roll(truth, rng.integers(-reach, reach + 1, 2), (0, 1))
        if row % 9 == 0:
            mask[:] = 0
        rle = coco.encode(np.asfortranarray(mask))
        segmentation = {"size": [h, w], "counts": rle["counts"].decode()}
        entries.append({"sent_id": int(index.sent_id[row]), "segmentation": segmentation})
        right.append(agree(pixels(mask), pixels(truth)))
    (tmp_path / "p.json").write_text(json.dumps(entries))
    result = score(split, Predictions(tmp_path / "p.json"))
    written = results.write(split, result, tmp_path / "out")
    assert written["acc@0.5"] == sum(right) / 96
    assert 0.2 < written["acc@0.5"] < 0.9  # both hits and misses
    analysis = json.loads((tmp_path / "out/analysis.json").read_text())
    low, high = analysis["intervals"]["acc@0.5"]
    assert low <= written["acc@0.5"] <= high


def pixels(mask):
    return [(x, y) for y, row in enumerate(mask.tolist()) for x, value in enumerate(row) if value]


def agree(a, b):
    """Whether the bounding boxes of two sets of pixels have an IoU of at least 0.5."""
    if not a or not b:
        return False
    ax, ay, bx, by = (sorted(pixel[k] for pixel in of) for of in (a, b) for k in (0, 1))
    shared = max(0, min(ax[-1], bx[-1]) - max(ax[0], bx[0]) + 1)
    shared *= max(0, min(ay[-1], by[-1]) - max(ay[0], by[0]) + 1)
    areas = [(x[-1] - x[0] + 1) * (y[-1] - y[0] + 1) for x, y in ((ax, ay), (bx, by))]
    return 2 * shared >= sum(areas) - shared
