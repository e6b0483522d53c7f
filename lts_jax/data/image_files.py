"""Pictures that people have: of any orientation, depth and number of channels, to RGB."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tfds_refcoco import DataError

# Other formats are refused whatever a file is called: Pillow hands PostScript to Ghostscript, and
# takes some by a single byte. Old versions of Pillow have no AVIF.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")


def read_photo(
    source: str | Path | bytes | Image.Image | np.ndarray, most_pixels: int | None = None
) -> np.ndarray:
    """Reads a picture as a viewer would show it, uint8 `[h, w, 3]`, RGB.

    The orientation tag is applied, 16 bits become 8, and what is transparent lies on white.

    Args:
      source: a file's path or bytes, a PIL image, or an array: uint8 `[h, w]`, `[h, w, 3]` or
        `[h, w, 4]`.
      most_pixels: larger pictures are refused before they are decoded.

    Raises:
      DataError: it is missing, no picture, too large, or not of these kinds.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source)
    name = str(source) if isinstance(source, str | Path) else "image"
    try:
        if isinstance(source, Image.Image):
            picture = source
        else:
            Image.init()
            formats = [name for name in FORMATS if name in Image.OPEN]
            file = io.BytesIO(source) if isinstance(source, bytes) else source
            picture = Image.open(file, formats=formats)
        if most_pixels is not None and picture.width * picture.height > most_pixels:
            raise DataError(
                f"{name}: too large ({picture.width} × {picture.height} pixels, more than "
                f"{most_pixels:,}); scale it down."
            )
        return _from_picture(ImageOps.exif_transpose(picture), name)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name}: no such file.") from None
    except IsADirectoryError:
        raise DataError(f"{name}: a folder; give an image file.") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: too large ({error}); scale it down.") from error
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise DataError(f"{name}: not an image that can be read: none of {known}.") from None
    except Exception as error:  # decoders raise what they like
        raise DataError(f"{name}: not an image that can be read ({error}).") from error


def _from_picture(picture: Image.Image, name: str) -> np.ndarray:
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{name}: grey values beyond 16 bits; save it as 8-bit RGB.")
        return _from_array(np.round(values / 257).astype(np.uint8))
    if picture.mode == "F":
        raise DataError(f"{name}: floating-point pixels; save it as 8-bit RGB.")
    if "transparency" in picture.info or picture.mode in ("LA", "La", "PA", "RGBa"):
        picture = picture.convert("RGBA")
    if picture.mode == "RGBA":
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def _from_array(values: np.ndarray) -> np.ndarray:
    kinds = (values.ndim == 2) or (values.ndim == 3 and values.shape[2] in (3, 4))
    if values.dtype != np.uint8 or not kinds or not values.size:
        raise DataError(
            f"image: {values.dtype} {list(values.shape)}; give uint8 [h, w], [h, w, 3] or "
            "[h, w, 4]."
        )
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, axis=2)
    if values.shape[2] == 4:
        return _from_picture(Image.fromarray(values), "image")
    return values
