"""The bytes of an image, checked and otherwise untouched."""

import io
import warnings

import cv2
import numpy as np
from PIL import Image, ImageFile

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.files import MAX_IMAGE, RawFile
from tfds_refcoco.raw.types import RawImage

STORED = ("JPEG", "PNG")  # what the image of a record may be
# Recognized, so that a message can name them. No others are opened whatever a file is called:
# Pillow hands PostScript to Ghostscript.
RECOGNIZED = (*STORED, "WEBP", "GIF", "BMP", "TIFF")
# Modes that decode to three channels as every reader of the records expects.
_COLOR, _GRAY = ("RGB",), ("L",)
ORIENTATION = 0x0112  # an EXIF tag


def read_image(image: RawImage) -> tuple[bytes, bool]:
    """Returns the bytes of an image's file, and whether it is gray.

    A gray image is kept as it is, COCO has some: TFDS and OpenCV decode it to three equal
    channels.

    Raises:
      DataError: the file is damaged, of another size than its annotations say, or of a kind that
        readers would decode differently.
    """
    data = image.file.read(MAX_IMAGE)
    picture = open_image(image.file, data, image.formats)
    if picture.size != (image.width, image.height):
        raise DataError(
            f"{image.file}: the picture is {picture.width}x{picture.height} pixels, {image.where} "
            f"says {image.width}x{image.height}; fetch the original file."
        )
    try:
        # An eighth of the size skips most of the work, and still reads every byte.
        picture.draft(picture.mode, (1, 1))
        picture.load()
    except Exception as error:  # decoders raise what they like
        raise DataError(f"{image.file}: damaged ({error}); fetch the file again.") from error
    if picture.format == "PNG":  # Pillow overlooks a missing end, and reads 16 bits as 8
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.dtype != np.uint8:
            fault = "damaged" if pixels is None else "not of 8 bits"
            raise DataError(f"{image.file}: {fault}; write it again.")
    return data, picture.mode in _GRAY


def open_image(file: RawFile, data: bytes, formats: tuple[str, ...]) -> ImageFile.ImageFile:
    """Returns the image in `data`, of which only the header is read.

    Raises:
      DataError: it is none of the `formats`, or neither 8-bit color nor 8-bit gray.
    """
    expected = " or ".join(formats)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data), formats=RECOGNIZED)
        orientation = picture.getexif().get(ORIENTATION, 1)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{file}: more than {Image.MAX_IMAGE_PIXELS:,} pixels; scale it down."
        ) from error
    except Exception as error:  # decoders raise what they like
        raise DataError(f"{file}: not a readable {expected}; fetch the file again.") from error
    if picture.format not in formats:
        raise DataError(f"{file}: a {picture.format} file, expected {expected}; convert it.")
    if picture.mode not in _COLOR + _GRAY:
        raise DataError(
            f"{file}: its pixels are {picture.mode}, expected 8-bit RGB or gray; convert it."
        )
    if "PNG" in formats and orientation not in (0, 1):
        raise DataError(
            f"{file}: its EXIF orientation is {orientation}: readers differ in which way up they "
            "show it; rotate its pixels and remove the tag."
        )
    return picture
