"""Run-length masks, compared with pycocotools and with plain loops."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tfds_refcoco import masks
from tfds_refcoco.errors import DataError

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # from pycocotools

H, W = 20, 30
SQUARE = [2, 3, 12, 3, 12, 11, 2, 11]


def _uncompressed(mask: np.ndarray) -> list[int]:
    """Returns column-major runs, starting with zeros, by a plain loop."""
    runs, value = [0], 0
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return runs


@pytest.mark.parametrize("seed", range(10))
def test_round_trip_and_both_rle_forms(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 40, 2).tolist()
    mask = (rng.random((height, width)) < rng.random()).astype(np.uint8)
    counts = masks.encode(mask)
    decoded = masks.decode(counts, height, width)
    assert decoded.dtype == np.uint8 and decoded.shape == (height, width)
    np.testing.assert_array_equal(decoded, mask)
    assert masks.area(counts, height, width) == mask.sum()
    for form in (_uncompressed(mask), counts, counts.decode()):
        rle = {"size": [height, width], "counts": form}
        assert masks.from_segmentation(rle, height, width) == counts


@pytest.mark.parametrize("zeros", [1, 2, 200, 20_001])
@pytest.mark.parametrize("compressed", [False, True])
def test_empty_runs(zeros, compressed):
    """They overflow pycocotools' heap in `merge` or truncate its union, so they are removed."""
    left, right = [5, 10, *[0] * zeros, 7], [5, *[0] * zeros, 20]
    counts = []
    for runs in (left, right):
        runs = [*runs, H * W - sum(runs)]
        counts.append(_compress(runs) if compressed else runs)
    encoded = [masks.from_segmentation({"size": [H, W], "counts": c}, H, W) for c in counts]
    expected = []
    for runs, mask in zip((left, right), encoded, strict=True):
        flat, value = [], 0
        for run in [*runs, H * W - sum(runs)]:
            flat += run * [value]
            value = 1 - value
        expected.append(np.array(flat, np.uint8).reshape(W, H).T)
        np.testing.assert_array_equal(masks.decode(mask, H, W), expected[-1])
        assert mask == coco_mask.encode(np.asfortranarray(expected[-1]))["counts"]
    union = masks.union(encoded, H, W)
    np.testing.assert_array_equal(masks.decode(union, H, W), expected[0] | expected[1])
    # Records from other sources may contain them; the union must still be correct.
    if compressed:
        assert masks.union(counts, H, W) == union


def _compress(runs: list[int]) -> bytes:
    """COCO's compressed RLE, implemented from its description."""
    out = bytearray()
    for i, run in enumerate(runs):
        value = run - runs[i - 2] if i > 2 else run
        while True:
            digit, value = value & 0x1F, value >> 5
            more = value != -1 if digit & 0x10 else value != 0
            out.append(48 + digit + (0x20 if more else 0))
            if not more:
                break
    return bytes(out)


def test_long_runs():
    mask = np.zeros((4000, 3000), np.uint8)
    mask[:, 2000:] = 1
    assert masks.area(masks.encode(mask), 4000, 3000) == 4_000_000


def test_overlapping_parts_are_merged():
    parts = [SQUARE, [x + 4 for x in SQUARE], SQUARE]
    union = masks.decode(masks.from_segmentation(parts, H, W), H, W)
    singles = [masks.decode(masks.from_segmentation([part], H, W), H, W) for part in parts]
    np.testing.assert_array_equal(union, np.maximum.reduce(singles))
    assert set(np.unique(union)) == {0, 1}
    assert np.sum(singles, axis=0).max() == 3


def test_a_polygon_outside_the_image_is_clipped():
    mask = masks.decode(masks.from_segmentation([[-5, -5, 40, -5, 40, 25, -5, 25]], H, W), H, W)
    assert mask.all()


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        None,
        "text",
        [SQUARE, []],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5]],
        [[*SQUARE[:-1], 5, 1]],
        [[*SQUARE[:-1], float("nan")]],
        [[*SQUARE[:-1], float("inf")]],
        [[*SQUARE[:-1], 10**400]],
        [[*SQUARE[:-1], 1e8]],
        [[*SQUARE[:-1], "7"]],
        [[*SQUARE[:-1], True]],
        {},
        {"size": [H, W]},
        {"size": [W, H], "counts": [H * W]},
        {"size": [H, W], "counts": [H * W + 1]},
        {"size": [H, W], "counts": [H * W - 1]},
        {"size": [H, W], "counts": [H * W + 5, -5]},
        {"size": [H, W], "counts": [float(H * W)]},
        {"size": [H, W], "counts": "\u00e9"},
        {"size": [H, W], "counts": b""},
        {"size": [H, W], "counts": b"444"},
        {"size": [H, W], "counts": b"PPYoooo"},
        {"size": [H, W], "counts": b"o" * 50},
        {"size": [H, W], "counts": "hello world"},
    ],
)
def test_malformed(segmentation):
    with pytest.raises(DataError):
        masks.from_segmentation(segmentation, H, W)


def test_decode_refuses_counts_of_another_size():
    counts = masks.encode(np.ones((H, W), bool))
    for height, width in ((H, W + 1), (H - 1, W)):
        with pytest.raises(DataError, match="cover"):
            masks.decode(counts, height, width)
    with pytest.raises(DataError, match=r"\[h, w\]"):
        masks.encode(np.ones((H, W, 1)))


def test_real_photos_equal_pycocotools(test_data):
    path = test_data / "coco_photos" / "instances.json"
    if not path.is_file():
        pytest.skip(f"no {path}")
    content = json.loads(path.read_text())
    images = {image["id"]: image for image in content["images"]}
    for annotation in content["annotations"][:300]:
        image = images[annotation["image_id"]]
        h, w = image["height"], image["width"]
        ours = masks.decode(masks.from_segmentation(annotation["segmentation"], h, w), h, w)
        rle = coco_mask.frPyObjects(annotation["segmentation"], h, w)
        theirs = coco_mask.decode(coco_mask.merge(rle) if isinstance(rle, list) else rle)
        np.testing.assert_array_equal(ours, theirs)
