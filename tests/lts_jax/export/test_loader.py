"""The loader of an exported folder: resizes as OpenCV does, and loads the weights once."""

from pathlib import Path

import cv2
import jax
import numpy as np
import pytest

from lts_jax.data import image_ops
from lts_jax.export.bundle import write_folder
from lts_jax.export.standalone import pixels
from lts_jax.steps import original_size
from tests.lts_jax.helpers.random_network import make_trained


@pytest.mark.slow
def test_resizing_equals_opencvs_bitwise():
    rng = np.random.default_rng(0)
    for h, w in ((480, 640), (427, 640), (333, 500), (640, 480), (375, 500), (100, 60), (640, 1)):
        image = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
        for size, resize in ((416, "letterbox"), (96, "letterbox"), (320, "squash")):
            placement = image_ops.place(h, w, size, resize)
            spec = {"image_size": size, "resize": resize, "border": image_ops.GRAY}
            square, box = pixels.fit(image, spec)
            assert box == placement
            expected = image_ops.fit_image(image, placement, size)
            difference = np.abs(square.astype(int) - expected)
            assert difference.max() <= 1 and (difference > 0).mean() < 5e-3, (h, w, size)
            if max(h, w) >= size:  # photographs are usually downscaled
                assert difference.max() == 0, (h, w, size)
            grid = rng.uniform(0, 1, (1, size // 4, size // 4)).astype(np.float32)
            placements = np.array(placement, np.int32)[None]
            full = original_size.to_original_size(grid, placements, (h, w), 4)[0]
            np.testing.assert_allclose(pixels.unfit(grid[0], box, spec), full, atol=2e-4)
    assert cv2.__version__.startswith("4.")


def test_the_loader_has_at_most_thirty_lines():
    lines = Path(pixels.__file__).with_name("loader.py").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line.strip()]) <= 30


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((9, 9, 3)),
        np.zeros((9, 9, 3), np.int64),
        np.zeros((9, 9), np.uint8),
        np.zeros((9, 9, 4), np.uint8),
        np.zeros((0, 9, 3), np.uint8),
    ],
)
def test_only_uint8_rgb_images_are_accepted(image):
    spec = {"image_size": 96, "resize": "letterbox", "border": 128}
    with pytest.raises(
        ValueError, match=r"expected RGB, uint8 \[h, w, 3\], got (float|u?int)\d+ \["
    ):
        pixels.fit(image, spec)


def test_the_loader_copies_the_weights_to_the_device_once(tmp_path, monkeypatch):
    trained = make_trained(["a"], segment=False, neck=False)
    write_folder(trained, "stablehlo", tmp_path / "x")
    passed = []

    def jit(_function):
        return lambda weights, inputs: passed.append(weights) or {"mask": np.zeros((1, 12, 12))}

    monkeypatch.setattr(jax, "jit", jit)
    monkeypatch.syspath_prepend(str(tmp_path / "x"))
    from loader import load

    segment = load(tmp_path / "x")
    for _ in range(2):
        assert segment(np.zeros((40, 60, 3), np.uint8), "a").shape == (40, 60)
    assert all(isinstance(x, jax.Array) for x in passed[0].values()) and passed[0] is passed[1]
