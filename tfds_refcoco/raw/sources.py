"""The supported datasets, and the locations of their raw files under the raw folder.

refcoco/instances.json   refcoco/refs(unc).p      or refcoco.zip with both files
images/train2014/COCO_train2014_000000000154.jpg  or images/train2014.zip, …
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.files import MAX_ANNOTATIONS, RawFile, normalize, open_folder, open_zip


@dataclass(frozen=True)
class Source:
    """Location of a dataset's annotations: possible folder names, and the refs file.

    `generalized` means that a ref may name any number of objects, as in gRefCOCO.
    """

    folders: tuple[str, ...]
    refs: str
    generalized: bool = False

    @property
    def annotations(self) -> tuple[str, ...]:
        """Names of the annotation files."""
        return (self.refs,) if self.folders == ("",) else ("instances.json", self.refs)


SOURCES = {
    "refcoco_unc": Source(("refcoco",), "refs(unc).p"),
    "refcoco_google": Source(("refcoco",), "refs(google).p"),
    "refcocoplus_unc": Source(("refcoco+", "refcocoplus"), "refs(unc).p"),
    "refcocog_umd": Source(("refcocog",), "refs(umd).p"),
    "refcocog_google": Source(("refcocog",), "refs(google).p"),
    "grefcoco_unc": Source(("grefcoco",), "grefs(unc).json", generalized=True),
    "shapes": Source(("shapes",), "refs(unc).p"),
    "custom": Source(("",), "custom.json", generalized=True),
}
# "" is the raw folder itself.
_IMAGE_PARENTS = ("images", "images/mscoco/images", "")
_IMAGE_NAMES = ("train2014", "train2017")
_COCO_NAME = re.compile(r"(?:COCO_train2014_)?(\d{12})\.jpg")
_FETCH_REFS = "Download it from https://github.com/lichengunc/refer (section Download)."
_FETCH_GREFS = "Download it from https://github.com/henghuiding/gRefCOCO."
_MAKE_SHAPES = "Create it with `python -m tfds_refcoco generate`."
_WRITE_CUSTOM = "Write it as described in docs/data.md (section Own data)."
_FETCH_IMAGES = (
    "Download http://images.cocodataset.org/zips/train2014.zip (or train2017.zip, with the same "
    "images) and put it, or the extracted folder, under images/"
)


def check_dataset(dataset: str) -> Source:
    """Returns the source of `dataset`; raises DataError if it is unknown."""
    if dataset not in SOURCES:
        raise DataError(
            f"dataset: unknown dataset {dataset!r}; expected one of {', '.join(SOURCES)}."
        )
    return SOURCES[dataset]


def find_annotations(root: Path, source: Source, name: str) -> RawFile:
    """Returns the file `name` of a source, in one of its folders or zips.

    Raises:
      DataError: the file does not exist; the message lists all locations tried.
    """
    tried = []
    for folder in source.folders:
        tried.append(str(root / folder / name))
        if (root / folder / name).is_file():
            return RawFile(root / folder / name)
        if not folder:  # the raw folder itself
            continue
        zipped = root / f"{folder}.zip"
        tried.append(f"{zipped} ({name})")
        if file := open_zip(zipped, folder).get(name):
            return file
    fixes = {"shapes": _MAKE_SHAPES, "custom": _WRITE_CUSTOM, "grefcoco_unc": _FETCH_GREFS}
    fix = next((text for name, text in fixes.items() if source is SOURCES[name]), _FETCH_REFS)
    listed = "\n".join(f"  {place}" for place in tried)
    raise DataError(f"{name} not found. Tried:\n{listed}\n{fix}")


def hash_annotations(root: Path, source: Source) -> dict[str, str]:
    """Returns the SHA-256 of each annotation file by name."""
    return {
        name: hashlib.sha256(find_annotations(root, source, name).read(MAX_ANNOTATIONS)).hexdigest()
        for name in source.annotations
    }


class ImageFinder:
    """The COCO images under a raw folder, in folders or zips, with file names of 2014 or 2017."""

    def __init__(self, root: Path) -> None:
        self._listings: list[dict[str, RawFile]] = []
        self._places: list[Path] = []
        for parent in _IMAGE_PARENTS:
            for name in _IMAGE_NAMES:
                folder, zipped = root / parent / name, root / parent / f"{name}.zip"
                self._places += [folder, zipped]
                self._listings += [open_folder(folder), open_zip(zipped, name)]
        self._places.append(root / "images")
        self._listings.append(open_folder(root / "images"))

    def find(self, name: str) -> RawFile | None:
        """Returns the image that instances.json calls `name`, or None."""
        names = [normalize(name)]
        if match := _COCO_NAME.fullmatch(name):
            names += [f"COCO_train2014_{match[1]}.jpg", f"{match[1]}.jpg"]
        files = (listing[n] for n in names for listing in self._listings if n in listing)
        return next(files, None)

    def complain(self, missing: Iterable[str], named_in: object) -> DataError:
        """Returns the error for missing images that the file `named_in` names."""
        names = list(missing)
        return DataError(
            f"{len(names)} images named in {named_in} are missing, first {names[0]}. Searched "
            f"{', '.join(map(str, self._places))}. {_FETCH_IMAGES}."
        )
