import jax
import numpy as np
import pytest
from pycocotools import mask as coco

import tfds_refcoco
from lts_jax.data import examples
from lts_jax.data.image_ops import fit_mask, place
from lts_jax.evaluation import metrics
from lts_jax.models.lts import Outputs
from lts_jax.steps import scoring

SIDE = 96
CANVAS = (640, 640)
SIZES = [(1, 37), (37, 1), (640, 427), (427, 640)]


def rle(mask):
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def score_all(mask, heatmap, placements, truths, threshold=0.5):
    """Runs `scoring.score` on padded and packed masks of several sizes."""
    padded = np.zeros((len(truths), *CANVAS), bool)
    for i, truth in enumerate(truths):
        padded[i, : truth.shape[0], : truth.shape[1]] = truth

    @jax.jit
    def run(mask, heatmap, placement, truth):
        outputs = Outputs(heatmap, mask)
        return scoring.score(
            outputs, placement, truth, image_size=SIDE, thresholds=(threshold,), pictures=True
        )

    out = run(mask, heatmap, np.array(placements, np.int32), np.packbits(padded, axis=2))
    out = {k: np.asarray(v) for k, v in out.items()}
    return out | {"prediction": np.unpackbits(out["prediction"], axis=2) > 0}


def check_against_pycocotools(out, truths):
    """Compares all outputs of a batch with pycocotools and NumPy."""
    ious = []
    for i, truth in enumerate(truths):
        h, w = truth.shape
        prediction = out["prediction"][i, :h, :w]
        assert out["prediction"][i].sum() == prediction.sum()  # nothing outside the image
        ours, theirs = rle(prediction), rle(truth)
        both = coco.area(coco.merge([ours, theirs], intersect=True))
        either = coco.area(coco.merge([ours, theirs]))
        assert out["intersection"][i] == both == np.logical_and(prediction, truth).sum()
        assert out["union"][i] == either == np.logical_or(prediction, truth).sum()
        # For two empty masks, pycocotools returns 0.
        ious.append(coco.iou([ours], [theirs], [0])[0, 0] if either else 1.0)
    intersection, union = out["intersection"], out["union"]
    np.testing.assert_allclose(metrics.iou(intersection, union), ious, atol=1e-12)
    boxes = metrics.box_iou(out["boxes"], out["area"])
    for i, truth in enumerate(truths):
        pair = [coco.toBbox(rle(m)) for m in (out["prediction"][i], truth)]
        if truth.any():
            expected = coco.iou([pair[0]], [pair[1]], [0])[0, 0] if pair[0].any() else 0.0
            assert boxes[i] == pytest.approx(expected, abs=1e-12)
        else:
            assert np.isnan(boxes[i])
    scores = metrics.summarize(intersection, union, out["hit"], boxes)
    there = boxes[~np.isnan(boxes)]
    assert scores["acc@0.5"] == (np.mean(there >= 0.5) if len(there) else None)
    assert scores["miou"] == pytest.approx(np.mean(ious), abs=1e-12)
    assert scores["oiou"] == pytest.approx(sum(intersection.tolist()) / sum(union.tolist()))
    for x in (0.5, 0.6, 0.7, 0.8, 0.9):
        assert scores[f"prec@{x}"] == np.mean([iou > x for iou in ious])
    assert scores["pointing"] == np.mean(out["hit"])
    return ious


@pytest.mark.parametrize("resize", ["letterbox", "squash"])
def test_scores_of_random_masks_at_odd_sizes(resize):
    rng = np.random.default_rng(2)
    n = 3 * len(SIZES)
    sizes = SIZES * 3
    placements = [place(*size, SIDE, resize) for size in sizes]
    truths = [rng.random(size) < share for size, share in zip(sizes, rng.random(n), strict=True)]
    logits = rng.normal(size=(n, 24, 24)).astype(np.float32)
    heatmaps = rng.normal(size=(n, 2, 12, 12)).astype(np.float32)
    out = score_all(logits, heatmaps, placements, truths)
    ious = check_against_pycocotools(out, truths)
    assert 0.1 < np.mean(ious) < 0.9
    expected = 1 / (1 + np.exp(-heatmaps))
    np.testing.assert_allclose(out["heatmap"] / 255, expected, atol=0.5 / 255 + 1e-6)

    # Pointing uses the last round only: the pixel at the centre of the largest cell.
    for i, (placement, truth) in enumerate(zip(placements, truths, strict=True)):
        cell = np.unravel_index(heatmaps[i, 1].argmax(), (12, 12))
        h, w, top, left, height, width = placement
        row = ((cell[0] + 0.5) * 8 - top) * h / height
        column = ((cell[1] + 0.5) * 8 - left) * w / width
        hit = 0 <= row < h and 0 <= column < w and truth[int(row), int(column)]
        assert out["hit"][i] == hit


@pytest.mark.parametrize("size", SIZES)
def test_empty_and_full_masks(size):
    empty, full = np.zeros(size, bool), np.ones(size, bool)
    pairs = [(empty, empty), (empty, full), (full, empty), (full, full)]
    logits = np.stack([np.full((24, 24), 9.0 if p.any() else -9.0, np.float32) for p, _ in pairs])
    truths = [truth for _, truth in pairs]
    placements = [place(*size, SIDE, "squash")] * 4
    out = score_all(logits, np.zeros((4, 1, 12, 12), np.float32), placements, truths)
    for i, (prediction, _) in enumerate(pairs):
        np.testing.assert_array_equal(out["prediction"][i, : size[0], : size[1]], prediction)
    assert check_against_pycocotools(out, truths) == [1, 0, 0, 1]
    assert out["hit"].tolist() == [False, True, False, True]


@pytest.mark.slow
def test_scores_of_real_masks(mini_refcoco, tmp_path):
    """Compares the masks of real sentences with themselves and with those of other sentences."""
    tfds_refcoco.build("refcoco_unc", tmp_path, mini_refcoco, progress=False)
    split = tfds_refcoco.open_dataset(tmp_path, "refcoco_unc").split("val+testA+testB")
    index = split.index
    truths = [
        examples.read_mask(split.record(record), sentence, h, w) > 0
        for record, sentence, h, w in zip(
            index.record, index.sentence, index.height, index.width, strict=True
        )
    ]
    placements = [place(*truth.shape, SIDE, "letterbox") for truth in truths]
    rng = np.random.default_rng(3)
    grids = np.stack([fit_mask(t, p, SIDE, 4) for t, p in zip(truths, placements, strict=True)])
    logits = (4.0 * grids - 2 + rng.normal(size=grids.shape)).astype(np.float32)
    heatmaps = rng.normal(size=(len(truths), 1, 12, 12)).astype(np.float32)
    out = score_all(logits, heatmaps, placements, truths)
    ious = check_against_pycocotools(out, truths)
    assert len(ious) == 96 and 0.3 < np.mean(ious) < 0.9

    theirs = [truths[i - 4] for i in range(len(truths))]
    shared = [(a, b) for a, b in zip(truths, theirs, strict=True) if a.shape == b.shape]
    assert len(shared) > 30
    both = np.array([(a & b).sum() for a, b in shared])
    either = np.array([(a | b).sum() for a, b in shared])
    expected = [coco.iou([rle(a)], [rle(b)], [0])[0, 0] for a, b in shared]
    np.testing.assert_allclose(metrics.iou(both, either), expected, atol=1e-12)


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
    assert scores["prec@0.5"] == 0.5  # strictly greater than 0.5
    assert scores["prec@0.9"] == 0.5
    assert scores["pointing"] == 0.5
    assert list(scores) == [
        "oiou",
        "miou",
        *(f"prec@{x}" for x in (0.5, 0.6, 0.7, 0.8, 0.9)),
        "pointing",
        "acc@0.5",
    ]
    assert scores["acc@0.5"] is None


def test_boxes_by_hand():
    mask = np.zeros((6, 9), bool)
    assert metrics.box(mask) == (0, 0, 0, 0)
    mask[2, 3] = mask[4, 7] = True
    assert metrics.box(mask) == (3, 2, 8, 5)
    boxes = np.array(
        [
            [(0, 0, 4, 4), (0, 0, 4, 2)],  # 8 of 16: exactly 0.5 counts
            [(0, 0, 4, 4), (1, 0, 5, 2)],  # 6 of 18
            [(0, 0, 4, 4), (4, 0, 8, 4)],  # side by side
            [(0, 0, 0, 0), (4, 0, 8, 4)],  # empty prediction
            [(1, 1, 2, 2), (0, 0, 0, 0)],  # no target
        ]
    )
    result = metrics.box_iou(boxes, np.array([1, 1, 1, 1, 0]))
    np.testing.assert_array_equal(result, [0.5, 6 / 18, 0, 0, np.nan])
    scores = metrics.summarize(np.ones(5, int), np.ones(5, int), None, result)
    assert scores["acc@0.5"] == 0.25
    nothing = metrics.summarize(np.ones(1, int), np.ones(1, int), None, result[4:])
    assert nothing["acc@0.5"] is None


def test_everything_empty_is_perfect():
    assert metrics.summarize(np.zeros(2, int), np.zeros(2, int), np.zeros(2, bool))["oiou"] == 1


def test_no_heatmap_no_pointing():
    scores = metrics.summarize(np.array([1]), np.array([2]), None)
    assert scores["pointing"] is None and scores["miou"] == 0.5


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match=r"expected arrays of one shape \[N\]"):
        metrics.summarize(np.zeros(2), np.zeros(3), np.zeros(2, bool))
    with pytest.raises(ValueError, match="no sentences"):
        metrics.summarize(np.zeros(0), np.zeros(0), np.zeros(0, bool))
