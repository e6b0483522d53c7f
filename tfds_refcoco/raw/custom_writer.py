"""Writes `custom.json` (see docs/data.md) without moving the images."""

import hashlib
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.files import write_bytes, write_text
from tfds_refcoco.raw.images import ORIENTATION, RECOGNIZED, STORED

BEFORE = "custom.json.before"
COPIES = "copies"  # folder of images that must be converted for the records
_MODES = ("RGB", "L")
_CONVERTIBLE = ("RGBA", "LA", "P", "PA", "1", "CMYK", "YCbCr")


class CustomWriter:
    """Collects the images of a custom.json and writes it.

    Images that records cannot store are copied as PNG: images in other formats, or with an EXIF
    orientation, a palette or transparency.

    Args:
      out: output folder of custom.json.

    Attributes:
      notes: counts of changes and skipped items, by description.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.notes: Counter[str] = Counter()
        self._images: list[tuple[Path, dict[str, Any]]] = []
        self._copied: dict[Path, Path] = {}

    def image_size(
        self, path: Path, size: tuple[int, int] | None, where: str
    ) -> tuple[Path, int, int]:
        """Returns the path for custom.json, and the image's width and height in pixels.

        Args:
          path: path of the image.
          size: annotated width and height, if known. An image with an EXIF orientation is assumed
            to be annotated upright, as annotation tools show it, unless `size` is the size of the
            stored pixels.
          where: location of the annotation for error messages.

        Raises:
          DataError: the image is missing or unreadable, or has another size or more than 8 bits.
          OSError: the copy cannot be written.
        """
        try:
            with Image.open(path, formats=RECOGNIZED) as picture:
                stored = picture.size
                rotated = picture.getexif().get(ORIENTATION, 1) not in (0, 1)
                upright = stored
                if rotated and picture.getexif()[ORIENTATION] >= 5:
                    upright = stored[::-1]
                fits = picture.format in STORED and picture.mode in _MODES
                if not fits and picture.mode not in (*_MODES, *_CONVERTIBLE):
                    raise DataError(
                        f"{path}: the pixel mode is {picture.mode}, expected 8 bits; convert it."
                    )
        except FileNotFoundError as error:
            raise DataError(f"{where}: the image {path} is missing.") from error
        except DataError:
            raise
        except Exception as error:  # decoders raise any type
            raise DataError(f"{path}: not a readable image ({error}).") from error
        if size is not None and size not in (stored, upright):
            raise DataError(
                f"{where}: annotated for {size[0]}x{size[1]} pixels, but the image {path} has "
                f"{upright[0]}x{upright[1]}."
            )
        turn = rotated and size in (None, upright)
        if rotated or not fits:
            why = "an EXIF orientation" if rotated else "a format, palette or transparency"
            return self._copy(path, turn, why), *(upright if turn else stored)
        return path, *stored

    def _copy(self, path: Path, turn: bool, why: str) -> Path:
        path = path.resolve()
        if path not in self._copied:
            # Named after the path, because images in different folders may have the same name.
            parts = [part for part in path.with_suffix(".png").parts if part != path.anchor]
            name = self.out / COPIES / Path(*parts[-3:])
            if name in self._copied.values():
                name = name.with_stem(f"{name.stem}_{len(self._copied)}")
            name.parent.mkdir(parents=True, exist_ok=True)
            try:
                with Image.open(path, formats=RECOGNIZED) as picture:
                    pixels = ImageOps.exif_transpose(picture) if turn else picture.copy()
                gray = pixels.mode in ("L", "LA", "1")
                pixels = pixels.convert("L" if gray else "RGB")
            except Exception as error:  # decoders raise any type
                raise DataError(f"{path}: damaged ({error}).") from error
            encoded = io.BytesIO()
            Image.fromarray(_pixels(pixels)).save(encoded, "png")
            write_bytes(name, encoded.getvalue())
            self._copied[path] = name
            self.notes[f"images were copied to {self.out / COPIES} as PNG because of {why}"] += 1
        return self._copied[path]

    def add(self, path: Path, row: dict[str, Any]) -> None:
        """Adds an image.

        Args:
          path: the path that `image_size` returned.
          row: the other fields of the image; see docs/data.md.
        """
        self._images.append((path.absolute(), row))

    def write(self) -> Path:
        """Writes custom.json and returns its path; renames an existing file with other content.

        Raises:
          DataError: no image was added, or the name of a file or folder is not UTF-8.
          OSError: the file cannot be written; an existing custom.json is unchanged.
        """
        if not self._images:
            raise DataError(f"{self.out}: no images to write; {self.describe()}")
        self.out.mkdir(parents=True, exist_ok=True)
        copies = (self.out / COPIES).absolute()
        outside = [path for path, _ in self._images if copies not in path.parents]
        content: dict[str, Any] = {}
        folder = self.out.absolute()
        if outside:
            folder = Path(os.path.commonpath([path.parent for path in outside]))
            content["image_dir"] = str(folder)
        rows = [
            {"file": path.relative_to(self.out.absolute() if copies in path.parents else folder)}
            | row
            for path, row in self._images
        ]
        content["images"] = [row | {"file": row["file"].as_posix()} for row in rows]
        for name in (content.get("image_dir", ""), *(row["file"] for row in content["images"])):
            try:
                name.encode()
            except UnicodeEncodeError as error:
                raise DataError(
                    f"{name}: the name is not UTF-8, as custom.json requires; rename it."
                ) from error
        target, text = self.out / "custom.json", json.dumps(content, ensure_ascii=False, indent=1)
        if target.is_file() and (before := target.read_bytes()) != text.encode():
            write_bytes(target.with_name(BEFORE), before)  # it may be hand-written
            self.notes[f"existing custom.json was renamed to {BEFORE}"] += 1
        write_text(target, text)
        return target

    def describe(self) -> str:
        """Returns the notes as one line."""
        return "; ".join(f"{n:,} {what}" for what, n in self.notes.items()) or "no images found"


def _pixels(picture: Image.Image) -> Any:
    """Returns only the pixels, without tags, color profile or transparency."""
    import numpy as np

    return np.asarray(picture)


def check_names(files: Iterable[tuple[str, Path]]) -> None:
    """Raises DataError if two image names resolve to the same file.

    Leading folders of a name are dropped if they do not exist, so `a/0.jpg` and `b/0.jpg` may both
    resolve to `0.jpg`.

    Args:
      files: the name of each image in the annotations, and its file.
    """
    names: dict[Path, str] = {}
    for name, path in files:
        known = names.setdefault(path.resolve(), name)
        if known != name:
            raise DataError(
                f"{known!r} and {name!r} both resolve to the file {path}; set --images to the "
                "folder that these names are relative to."
            )


def choose_val(paths: Iterable[Path], seed: int, share: float) -> frozenset[Path]:
    """Returns the images of `val`; see `choose_splits`."""
    return frozenset(choose_splits(paths, seed, {"val": share}))


def choose_splits(paths: Iterable[Path], seed: int, shares: Mapping[str, float]) -> dict[Path, str]:
    """Returns the images of the held-out splits, with the split of each.

    Images are ranked by a hash of the seed and their bytes, and assigned to the splits in order.
    Files with the same bytes are in the same split.

    Args:
      paths: all images.
      seed: any integer.
      shares: fraction of the pictures, by split. Each split gets at least one picture, as long as
        one remains for training.
    """
    keys = {path: digest(str(seed).encode() + path.read_bytes()) for path in paths}
    ranked = sorted(set(keys.values()))
    split_of: dict[int, str] = {}
    for split, share in shares.items():
        first = len(split_of)
        number = min(max(1, round(share * len(ranked))), len(ranked) - first - 1)
        split_of |= dict.fromkeys(ranked[first : first + number], split)
    return {path: split_of[key] for path, key in keys.items() if key in split_of}


def digest(data: bytes) -> int:
    """Returns a number from 0 to 2^64 - 1 that depends on every byte of `data`."""
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "big")
