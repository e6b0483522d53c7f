"""Makes a raw RefCOCO folder of any size from a few photos, to measure builds and reading.

    python -m benchmarks.synthetic_raw --photos DATA/coco_photos --images 20000 \\
      --sentences 142000 --out RAW

The files, their fields and the proportions of the splits are RefCOCO's. The photos, with their COCO
annotations, repeat under new ids; the sentences are real, but do not describe them. Repeated photos
are hard links to one copy if the file system supports them.
"""

import itertools
import json
import os
import pickle
import random
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.arguments import make_parser, parse_arguments

# RefCOCO (UNC): the images of each split, and the refs per image of all splits.
SPLIT_IMAGES = {"train": 16_994, "val": 1_500, "testA": 750, "testB": 750}
REFS_PER_IMAGE = 50_000 / 19_994
TEXT_FILES = ("val.json", "testA.json", "testB.json")


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
      expressions: folder of the texts, `TEXT_FILES`.
      out: a folder that does not exist or is empty.
      images: their number, at least one for each split.
      sentences: their number, at least three for each image.
      seed: of the choice of objects and sentences.
      split_images: proportions of the splits, train first.

    Raises:
      ValueError: the numbers are too small, or no photo has enough objects.
      FileExistsError: something is in `out`.
    """
    if images < len(SPLIT_IMAGES) or sentences < 3 * images:
        raise ValueError(f"{images} images with {sentences} sentences: take more of them")
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty; name another folder")
    rng = random.Random(seed)
    content = json.loads((photos / "instances.json").read_text(encoding="utf-8"))
    usable = _photos_with_objects(content)
    rng.shuffle(usable)
    texts = _read_texts(expressions)
    splits = _splits(images, split_images)

    folder = out / "images" / "train2014"
    folder.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    refs: list[dict[str, Any]] = []
    sent_ids = itertools.count()
    for i in range(images):
        image_id = i + 1
        photo, of_photo = usable[i % len(usable)]
        name = f"COCO_train2014_{image_id:012d}.jpg"
        rows.append({**photo, "id": image_id, "file_name": name})
        if i < len(usable):
            shutil.copyfile(photos / "images" / photo["file_name"], folder / name)
        else:
            _link(folder / rows[i % len(usable)]["file_name"], folder / name)
        first = len(annotations)
        annotations += [
            {**row, "image_id": image_id, "id": first + k} for k, row in enumerate(of_photo, 1)
        ]
        objects = [row for row in annotations[first:] if not row["iscrowd"]]
        referred = rng.sample(objects, _share(round(images * REFS_PER_IMAGE), i, images))
        of_image = _share(sentences, i, images)
        for k, row in enumerate(referred):
            chosen = rng.choices(texts, k=_share(of_image, k, len(referred)))
            refs.append(_ref(len(refs), row, name, splits[i], chosen, sent_ids))
    content |= {"images": rows, "annotations": annotations}
    (out / "refcoco").mkdir()
    text = json.dumps(content)
    (out / "refcoco" / "instances.json").write_text(text, encoding="utf-8")
    (out / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol=2))


def _photos_with_objects(content: dict[str, Any]) -> list[tuple[dict[str, Any], list[Any]]]:
    """Returns the photos that have three objects besides crowds, with all their annotations."""
    of_image: dict[int, list[dict[str, Any]]] = {row["id"]: [] for row in content["images"]}
    for row in content["annotations"]:
        of_image[row["image_id"]].append(row)
    usable = [
        (row, of_image[row["id"]])
        for row in content["images"]
        if sum(not a["iscrowd"] for a in of_image[row["id"]]) >= 3
    ]
    if not usable:
        raise ValueError("no photo has three objects; take other photos")
    return usable


def _read_texts(folder: Path) -> list[str]:
    refs = [
        ref
        for name in TEXT_FILES
        for ref in json.loads((folder / name).read_text(encoding="utf-8"))
    ]
    return [sentence["sent"] for ref in refs for sentence in ref["sentences"]]


def _splits(images: int, of_split: Mapping[str, int]) -> list[str]:
    """Returns the split of each image, in these proportions, at least one image each."""
    whole = sum(of_split.values())
    rest = {name: max(1, images * n // whole) for name, n in of_split.items() if name != "train"}
    counts = {"train": images - sum(rest.values()), **rest}
    return [name for name, n in counts.items() for _ in range(n)]


def _share(total: int, part: int, parts: int) -> int:
    """Returns the size of part number `part`, if `total` is divided into `parts`."""
    return total * (part + 1) // parts - total * part // parts


def _ref(
    ref_id: int,
    annotation: dict[str, Any],
    image_name: str,
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
        "file_name": image_name.replace(".jpg", f"_{annotation['id']}.jpg"),
        "sent_ids": [sentence["sent_id"] for sentence in sentences],
        "sentences": sentences,
    }


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # not supported, or too many links to one file
        shutil.copyfile(source, target)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status."""
    parser = make_parser(__doc__, out=False)
    parser.add_argument("--photos", type=Path, required=True, help="instances.json and images/")
    parser.add_argument(
        "--expressions",
        type=Path,
        help=f"folder of {', '.join(TEXT_FILES)}; refcoco_unc next to the photos if omitted",
    )
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--sentences", type=int, default=142_000)
    parser.add_argument("--out", type=Path, required=True, help="raw folder to write")
    args = parse_arguments(parser, arguments)
    expressions = args.expressions or args.photos.parent / "refcoco_unc"
    try:
        write_raw(args.photos, expressions, args.out, images=args.images, sentences=args.sentences)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{args.images} images, {args.sentences} sentences: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
