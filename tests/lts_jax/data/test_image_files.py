"""Invalid and truncated image files. Supported formats are tested with predict."""

import contextlib
import io

import numpy as np
import pytest
from PIL import Image

from lts_jax.data.image_files import read_photo
from tfds_refcoco import DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)


def saved(picture, kind):
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def test_postscript_is_never_run(tmp_path, monkeypatch):
    """Pillow passes an EPS to Ghostscript, whatever the file extension."""
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "photo.jpg").write_bytes(eps)
    with pytest.raises(DataError, match=r"photo\.jpg: .* one of JPEG, PNG"):
        read_photo(tmp_path / "photo.jpg")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("kind", ["AVIF", "WEBP", "TIFF", "GIF", "BMP", "PPM", "JPEG", "PNG"])
def test_damaged_pictures_of_any_kind(kind):
    """Decoders raise arbitrary exceptions; `read_photo` returns an image or raises DataError."""
    Image.init()
    if kind not in Image.SAVE:
        pytest.skip(f"this Pillow has no {kind}")
    complete = saved(Image.fromarray(PIXELS), kind)
    assert read_photo(complete).shape == PIXELS.shape
    rng = np.random.default_rng(0)
    for cut in (8, 20, len(complete) // 2, len(complete) - 3):
        with contextlib.suppress(DataError):
            read_photo(complete[:cut])
    for _ in range(30):
        damaged = bytearray(complete)
        for at in rng.integers(0, len(complete), 5):
            damaged[at] ^= 1 << int(rng.integers(8))
        with contextlib.suppress(DataError):
            read_photo(bytes(damaged))
