"""The kinds of failures, for synthetic masks and for objects in generated scenes."""

import json
from collections import Counter

import numpy as np
import pytest

from lts_jax.evaluation import failures
from tfds_refcoco import masks
from tfds_refcoco.shapes.sample import sample


@pytest.mark.parametrize(
    ("covered", "outside", "kind"),
    [
        (100, 0, ""),
        (100, 99, ""),
        (51, 0, ""),
        (100, 100, "two joined"),  # an IoU of exactly 0.5
        (30, 30, "two joined"),
        (60, 500, "two joined"),
        (50, 0, "crumbled"),
        (50, 29, "crumbled"),
        (10, 10, "crumbled"),
        (10, 11, "wrong object"),
        (29, 300, "wrong object"),
        (0, 1, "wrong object"),
        (0, 0, "nothing"),
    ],
)
def test_kinds_by_area(covered, outside, kind):
    (result,) = failures.kinds(np.array([covered]), np.array([100 + outside]), np.array([100]))
    assert result == kind


def test_sentences_without_a_target():
    result = failures.kinds(np.array([0, 0]), np.array([0, 5]), np.array([0, 0]))
    assert result.tolist() == ["", "no target"]
    assert failures.count(result)["no target"] == 1


def test_whole_objects_of_a_scene():
    """The kind for a mask that is composed of objects, which the classification does not know."""
    seen = Counter()
    for number in range(40):
        scene, _ = sample(np.random.default_rng([5, number]), "val")
        h, w = scene.height, scene.width
        shapes = [[thing.polygon.ravel().tolist()] for thing in scene.things]
        things = [masks.decode(masks.from_segmentation(s, h, w), h, w) > 0 for s in shapes]
        target, *others = sorted(things, key=lambda mask: mask.sum())
        upper = target & (np.cumsum(target).reshape(h, w) < 0.4 * target.sum())
        for mask, kind in (
            (target, ""),
            (upper, "crumbled"),
            (target | others[0], "two joined"),
            (others[0], "wrong object"),
            (others[0] | others[1], "wrong object"),
            (np.zeros_like(target), "nothing"),
        ):
            numbers = (mask & target).sum(), (mask | target).sum(), target.sum()
            (result,) = failures.kinds(*(np.array([n]) for n in numbers))
            assert result == kind
            seen[str(result)] += 1
    assert min(seen.values()) == 40


def test_files(trained_run):
    folder = trained_run / "eval" / "val"
    predictions = json.loads((folder / "predictions.json").read_text())
    analysis = json.loads((folder / "analysis.json").read_text())
    for table, entries in (
        (analysis, predictions),
        (analysis["other"], [entry["other"] for entry in predictions]),
    ):
        failed = Counter(entry["failure"] for entry in entries if entry["iou"] <= 0.5)
        assert {k: n for k, n in table["failures"].items() if n} == dict(failed)
        assert all(entry["failure"] == "" for entry in entries if entry["iou"] > 0.5)
    assert sum(analysis["failures"].values()) > 0
