import io

import cv2
import numpy as np
import pytest
from PIL import Image

from lts_jax.data.image_ops import GRAY, decode_image, fit_image, fit_mask, place


def test_letterbox_keeps_the_shape_and_centres():
    assert place(480, 640, 416, "letterbox") == (480, 640, 52, 0, 312, 416)
    assert place(640, 427, 416, "letterbox") == (640, 427, 0, 69, 416, 278)
    assert place(1, 1000, 416, "letterbox")[4:] == (1, 416)
    assert place(480, 640, 416, "squash") == (480, 640, 0, 0, 416, 416)
    with pytest.raises(ValueError, match=r"data\.resize"):
        place(480, 640, 416, "crop")


def test_border_is_gray_and_inside_is_the_image():
    image = np.random.default_rng(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    placement = place(20, 40, 40, "letterbox")
    out = fit_image(image, placement, 40)
    np.testing.assert_array_equal(out[10:30], image)  # unscaled, so all pixels are equal
    assert (out[:10] == GRAY).all() and (out[30:] == GRAY).all()


@pytest.mark.parametrize("resize", ["letterbox", "squash"])
@pytest.mark.parametrize("size", [(640, 427), (427, 640), (50, 33), (500, 416), (1, 50)])
def test_inside_is_opencvs_bilinear_resize(size, resize):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    p = place(*size, 416, resize)
    expected = np.full((416, 416, 3), GRAY, np.uint8)
    resized = cv2.resize(image, (p.width, p.height), interpolation=cv2.INTER_LINEAR)
    expected[p.top : p.top + p.height, p.left : p.left + p.width] = resized
    np.testing.assert_array_equal(fit_image(image, p, 416), expected)


@pytest.mark.parametrize("resize", ["letterbox", "squash"])
@pytest.mark.parametrize("size", [(640, 427), (427, 640), (1, 50), (33, 20), (64, 64)])
@pytest.mark.parametrize("stride", [4, 8])
def test_mask_is_sampled_at_the_cells_centres(size, stride, resize):
    h, w = size
    mask = np.random.default_rng(0).integers(0, 2, size, dtype=np.uint8)
    p = place(h, w, 64, resize)
    ours = fit_mask(mask, p, 64, stride)
    for i in range(64 // stride):
        for j in range(64 // stride):
            y = ((i + 0.5) * stride - p.top) * h / p.height
            x = ((j + 0.5) * stride - p.left) * w / p.width
            inside = 0 <= y < h and 0 <= x < w
            assert ours[i, j] == (mask[int(y), int(x)] if inside else 0)


def test_rgb_order_and_the_stored_orientation():
    red = Image.new("RGB", (30, 20), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90°", which COCO's annotations ignore
    file = io.BytesIO()
    red.save(file, "JPEG", exif=exif)
    image = decode_image(file.getvalue())
    assert image.shape == (20, 30, 3)
    assert image[..., 0].min() > 250 and image[..., 2].max() < 5
    gray = io.BytesIO()
    Image.new("L", (5, 4), 100).save(gray, "JPEG")
    assert decode_image(gray.getvalue()).shape == (4, 5, 3)
    with pytest.raises(ValueError, match="not a valid JPEG or PNG"):
        decode_image(b"no image")
