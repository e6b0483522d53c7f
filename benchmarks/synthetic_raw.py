"""Generates raw RefCOCO folders of any size from a few photos, to benchmark builds and reading.

    python -m benchmarks.synthetic_raw --photos DATA/coco_photos --images 20000 \\
      --sentences 142000 --out RAW
    python -m benchmarks.synthetic_raw --photos DATA/coco_photos --splits DATA/splits --out RAW

The files, their fields and the proportions of the splits are RefCOCO's. The second command
generates RefCOCO, RefCOCO+ and RefCOCOg with the published image ids, splits, and numbers of refs
and sentences (`benchmarks.published_splits`). The photos and their COCO annotations are repeated
under different ids; the sentences are real, but do not describe them. Images are identified by
their bytes, so each file contains its image id in a comment.
"""

import itertools
import json
import pickle
import random
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.arguments import make_parser, parse_arguments
from benchmarks.published_splits import RawSet, RawSplit, read_sets
from tfds_refcoco.errors import DataError

# RefCOCO (UNC): images per split, and refs per image over all splits.
SPLIT_IMAGES = {"train": 16_994, "val": 1_500, "testA": 750, "testB": 750}
REFS_PER_IMAGE = 50_000 / 19_994
TEXT_FILES = ("val.json", "testA.json", "testB.json")


class _Photo(NamedTuple):
    """A photo, its entry in `images` and its annotations."""

    jpeg: bytes
    row: dict[str, Any]
    annotations: list[dict[str, Any]]


def write_raw(
    photos: Path,
    expressions: Path,
    out: Path,
    *,
    images: int,
    sentences: int,
    seed: int = 0,
    split_images: Mapping[str, int] = SPLIT_IMAGES,
) -> None:
    """Writes `images/train2014/*.jpg`, `refcoco/instances.json` and `refcoco/refs(unc).p`.

    Args:
      photos: folder of `instances.json` and `images/`, in COCO's layout.
      expressions: folder of the text files `TEXT_FILES`.
      out: a folder that does not exist or is empty.
      images: number of images, at least one per split.
      sentences: number of sentences, at least three per image.
      seed: seed for choosing objects and sentences.
      split_images: proportions of the splits, train first.

    Raises:
      ValueError: the numbers are too small, or no photo has enough objects.
      FileExistsError: `out` is not empty.
    """
    if images < len(SPLIT_IMAGES) or sentences < 3 * images:
        raise ValueError(
            f"{images} images with {sentences} sentences are too few: use more of both"
        )
    refs, done, splits = round(images * REFS_PER_IMAGE), 0, {}
    for name, count in _splits(images, split_images).items():
        ids = range(done + 1, done + count + 1)
        of_split = (_share(total, done, done + count, images) for total in (refs, sentences))
        splits[name] = RawSplit(ids, *of_split)
        done += count
    write_sets(photos, expressions, out, [RawSet("refcoco", "refs(unc).p", splits)], seed)


def write_sets(
    photos: Path, expressions: Path, out: Path, sets: Sequence[RawSet], seed: int = 0
) -> None:
    """Writes several datasets that share the images in `images/train2014/`.

    Args:
      photos: see `write_raw`.
      expressions: see `write_raw`.
      out: see `write_raw`.
      sets: datasets with at most three refs per image; equal image ids share one file.
      seed: see `write_raw`.

    Raises:
      ValueError: no photo has enough objects.
      FileExistsError: `out` is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty: choose another folder")
    rng = random.Random(seed)
    content = json.loads((photos / "instances.json").read_text(encoding="utf-8"))
    usable = _photos_with_objects(content, photos / "images")
    rng.shuffle(usable)
    texts = _read_texts(expressions)
    folder = out / "images" / "train2014"
    folder.mkdir(parents=True)
    for image_id in sorted({i for of in sets for split in of.splits.values() for i in split.ids}):
        jpeg = usable[image_id % len(usable)].jpeg
        (folder / _image_name(image_id)).write_bytes(_with_comment(jpeg, f"image {image_id}"))
    for raw_set in sets:
        rows: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        refs: list[dict[str, Any]] = []
        sent_ids = itertools.count()
        for name, split in raw_set.splits.items():
            n = len(split.ids)
            for i, image_id in enumerate(split.ids):
                photo = usable[image_id % len(usable)]
                rows.append({**photo.row, "id": image_id, "file_name": _image_name(image_id)})
                own = [
                    {**row, "image_id": image_id, "id": 1000 * image_id + k}
                    for k, row in enumerate(photo.annotations)
                ]
                annotations += own
                objects = [row for row in own if not row["iscrowd"]]
                referred = rng.sample(objects, _share(split.refs, i, i + 1, n))
                of_image = _share(split.sentences, i, i + 1, n)
                for k, row in enumerate(referred):
                    chosen = rng.choices(texts, k=_share(of_image, k, k + 1, len(referred)))
                    refs.append(_ref(len(refs), row, name, chosen, sent_ids))
        content |= {"images": rows, "annotations": annotations}
        (out / raw_set.folder).mkdir()
        text = json.dumps(content)
        (out / raw_set.folder / "instances.json").write_text(text, encoding="utf-8")
        (out / raw_set.folder / raw_set.file).write_bytes(pickle.dumps(refs, protocol=2))


def _photos_with_objects(content: dict[str, Any], folder: Path) -> list[_Photo]:
    """Returns the photos with at least three non-crowd objects, with all annotations."""
    of_image: dict[int, list[dict[str, Any]]] = {row["id"]: [] for row in content["images"]}
    for row in content["annotations"]:
        of_image[row["image_id"]].append(row)
    usable = [
        _Photo((folder / row["file_name"]).read_bytes(), row, of_image[row["id"]])
        for row in content["images"]
        if sum(not a["iscrowd"] for a in of_image[row["id"]]) >= 3
    ]
    if not usable:
        raise ValueError("no photo has three objects: use other photos")
    return usable


def _read_texts(folder: Path) -> list[str]:
    refs = [
        ref
        for name in TEXT_FILES
        for ref in json.loads((folder / name).read_text(encoding="utf-8"))
    ]
    return [sentence["sent"] for ref in refs for sentence in ref["sentences"]]


def _splits(images: int, of_split: Mapping[str, int]) -> dict[str, int]:
    """Returns the number of images per split, in these proportions, at least one each."""
    whole = sum(of_split.values())
    rest = {name: max(1, images * n // whole) for name, n in of_split.items() if name != "train"}
    return {"train": images - sum(rest.values()), **rest}


def _share(total: int, start: int, end: int, parts: int) -> int:
    """Returns the size of parts `start` to `end` if `total` is divided into `parts`."""
    return total * end // parts - total * start // parts


def _image_name(image_id: int) -> str:
    return f"COCO_train2014_{image_id:012d}.jpg"


def _with_comment(jpeg: bytes, comment: str) -> bytes:
    """Returns the image with a comment after its first segment."""
    end = 4 + int.from_bytes(jpeg[4:6], "big")
    text = comment.encode("ascii")
    return jpeg[:end] + b"\xff\xfe" + (2 + len(text)).to_bytes(2, "big") + text + jpeg[end:]


def _ref(
    ref_id: int,
    annotation: dict[str, Any],
    split: str,
    texts: Sequence[str],
    sent_ids: "itertools.count[int]",
) -> dict[str, Any]:
    sentences = [
        {"sent_id": next(sent_ids), "sent": text, "raw": text, "tokens": text.split()}
        for text in texts
    ]
    return {
        "ref_id": ref_id,
        "ann_id": annotation["id"],
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "split": split,
        "file_name": f"COCO_train2014_{annotation['image_id']:012d}_{annotation['id']}.jpg",
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "sentences": sentences,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = make_parser(__doc__, out=False)
    parser.add_argument("--photos", type=Path, required=True, help="instances.json and images/")
    parser.add_argument(
        "--expressions",
        type=Path,
        help=f"folder of {', '.join(TEXT_FILES)} (default: refcoco_unc next to the photos)",
    )
    parser.add_argument(
        "--splits",
        type=Path,
        help="folder of image id lists; generates three datasets of published size",
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--sentences", type=int, default=142_000)
    parser.add_argument("--out", type=Path, required=True, help="raw folder to write")
    args = parse_arguments(parser, arguments)
    expressions = args.expressions or args.photos.parent / "refcoco_unc"
    try:
        if args.splits:
            write_sets(args.photos, expressions, args.out, read_sets(args.splits))
        else:
            write_raw(
                args.photos, expressions, args.out, images=args.images, sentences=args.sentences
            )
    except (ValueError, OSError, DataError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
