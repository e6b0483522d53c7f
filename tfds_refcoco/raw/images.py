"""Reading and validation of image files, whose bytes are not changed."""

import io
import warnings

import cv2
import numpy as np
from PIL import Image, ImageFile

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.files import MAX_IMAGE, RawFile
from tfds_refcoco.raw.types import RawImage

STORED = ("JPEG", "PNG")  # formats of images in records
# Recognized only for error messages. Other formats are never opened: for example, Pillow passes
# PostScript to Ghostscript.
RECOGNIZED = (*STORED, "WEBP", "GIF", "BMP", "TIFF")
# Modes that all readers decode to the same three channels.
_COLOR, _GRAY = ("RGB",), ("L",)
ORIENTATION = 0x0112  # an EXIF tag


def read_image(image: RawImage) -> tuple[bytes, bool]:
    """Returns the bytes of an image file, and whether it is gray.

    Gray images, which COCO contains, are not converted: TFDS and OpenCV decode them to three equal
    channels.

    Raises:
      DataError: the file is damaged, its size differs from the annotations, or readers would decode
        it differently.
    """
    data = image.file.read(MAX_IMAGE)
    picture = open_image(image.file, data, image.formats)
    if picture.size != (image.width, image.height):
        raise DataError(
            f"{image.file}: the image is {picture.width}x{picture.height} pixels, but "
            f"{image.where} has {image.width}x{image.height}; download the original file."
        )
    try:
        # Decoding at an eighth of the size is faster and still reads every byte.
        picture.draft(picture.mode, (1, 1))
        picture.load()
    except Exception as error:  # decoders raise any type
        raise DataError(f"{image.file}: damaged ({error}); download it again.") from error
    if picture.format == "PNG":  # Pillow ignores truncation, and reads 16 bits as 8
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.dtype != np.uint8:
            fault = "damaged" if pixels is None else "not 8-bit"
            raise DataError(f"{image.file}: {fault}; save it again as 8-bit PNG.")
    return data, picture.mode in _GRAY


def open_image(file: RawFile, data: bytes, formats: tuple[str, ...]) -> ImageFile.ImageFile:
    """Returns the image in `data`; only the header is read.

    Raises:
      DataError: the image is not in `formats`, or neither 8-bit color nor 8-bit gray.
    """
    expected = " or ".join(formats)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=RECOGNIZED)
        orientation = picture.getexif().get(ORIENTATION, 1)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{file}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; downscale it."
        ) from error
    except Exception as error:  # decoders raise any type
        raise DataError(f"{file}: not a readable {expected}; download it again.") from error
    if picture.format not in formats:
        raise DataError(f"{file}: expected {expected}, got {picture.format}; convert it.")
    if picture.mode not in _COLOR + _GRAY:
        raise DataError(f"{file}: expected 8-bit RGB or gray, got mode {picture.mode}; convert it.")
    if "PNG" in formats and orientation not in (0, 1):
        raise DataError(
            f"{file}: the EXIF orientation is {orientation}, which not all readers apply; rotate "
            "the pixels and remove the tag."
        )
    return picture
