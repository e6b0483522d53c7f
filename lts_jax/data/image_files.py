"""Reads user images of any orientation, bit depth and number of channels as RGB."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tfds_refcoco import DataError

# Other formats are refused whatever the file extension: Pillow passes PostScript to Ghostscript and
# detects some formats by a single byte. Old versions of Pillow do not support AVIF.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")


def read_photo(
    source: str | Path | bytes | Image.Image | np.ndarray, most_pixels: int | None = None
) -> np.ndarray:
    """Reads an image as a viewer would display it, uint8 `[h, w, 3]`, RGB.

    Applies the orientation tag, converts 16 bits to 8, and blends transparency with white.

    Args:
      source: path or bytes of a file, a PIL image, or an array: uint8 `[h, w]`, `[h, w, 3]` or
        `[h, w, 4]`.
      most_pixels: maximum number of pixels; larger images are refused before decoding.

    Raises:
      DataError: the image is missing, invalid, too large or in an unsupported format.
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
                f"{name}: image too large ({picture.width} × {picture.height} pixels; at most "
                f"{most_pixels:,} are allowed); scale it down."
            )
        return _from_picture(ImageOps.exif_transpose(picture), name)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{name}: no such file.") from None
    except IsADirectoryError:
        raise DataError(f"{name}: is a directory; give an image file.") from None
    except Image.DecompressionBombError as error:
        raise DataError(f"{name}: image too large ({error}); scale it down.") from error
    except UnidentifiedImageError:
        formats_read = ", ".join(FORMATS)
        raise DataError(
            f"{name}: not an image that can be read; convert it to one of {formats_read}."
        ) from None
    except Exception as error:  # decoders raise arbitrary exceptions
        raise DataError(
            f"{name}: not an image that can be read ({error}); the file may be corrupt."
        ) from error


def _from_picture(picture: Image.Image, name: str) -> np.ndarray:
    if picture.mode.startswith("I"):
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise DataError(f"{name}: gray values exceed 16 bits; save the image as 8-bit RGB.")
        return _from_array(np.round(values / 257).astype(np.uint8))
    if picture.mode == "F":
        raise DataError(f"{name}: the pixels are floating-point; save the image as 8-bit RGB.")
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
            f"image: expected a uint8 array [h, w], [h, w, 3] or [h, w, 4], got {values.dtype} "
            f"{list(values.shape)}."
        )
    if values.ndim == 2:
        return np.repeat(values[..., None], 3, axis=2)
    if values.shape[2] == 4:
        return _from_picture(Image.fromarray(values), "image")
    return values
