import numpy as np
import pytest
from pycocotools import mask as coco

from lts_jax import metrics


def test_equals_pycocotools_on_random_masks():
    rng = np.random.default_rng(0)
    intersection, union, theirs = [], [], []
    for _ in range(50):
        h, w = rng.integers(1, 60, 2)
        a, b = (rng.random((h, w)) < rng.random() for _ in range(2))
        rle = [coco.encode(np.asfortranarray(m.astype(np.uint8))) for m in (a, b)]
        theirs.append(coco.iou([rle[0]], [rle[1]], [0])[0, 0])
        intersection.append((a & b).sum())
        union.append((a | b).sum())
    intersection, union = np.array(intersection), np.array(union)
    each = metrics.iou(intersection, union)
    np.testing.assert_allclose(each[union > 0], np.array(theirs)[union > 0], atol=1e-12)
    scores = metrics.summarize(intersection, union, np.ones(50, bool))
    assert scores["miou"] == pytest.approx(each.mean(), abs=1e-12)
    assert scores["oiou"] == pytest.approx(intersection.sum() / union.sum(), abs=1e-12)


def test_by_hand():
    scores = metrics.summarize(
        np.array([50, 0, 10, 0]), np.array([100, 40, 10, 0]), np.array([True, False, True, False])
    )
    assert scores["oiou"] == 60 / 150
    assert scores["miou"] == (0.5 + 0 + 1 + 1) / 4  # two empty masks agree
    assert scores["prec@0.5"] == 0.5  # 0.5 itself is not above 0.5
    assert scores["prec@0.9"] == 0.5
    assert scores["pointing"] == 0.5
    assert list(scores) == [
        "oiou",
        "miou",
        *(f"prec@{x}" for x in (0.5, 0.6, 0.7, 0.8, 0.9)),
        "pointing",
    ]


def test_everything_empty_is_perfect():
    assert metrics.summarize(np.zeros(2, int), np.zeros(2, int), np.zeros(2, bool))["oiou"] == 1


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="one value a sentence"):
        metrics.summarize(np.zeros(2), np.zeros(3), np.zeros(2, bool))
    with pytest.raises(ValueError, match="no sentence"):
        metrics.summarize(np.zeros(0), np.zeros(0), np.zeros(0, bool))
