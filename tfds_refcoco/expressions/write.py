"""Reads COCO annotations and writes a custom.json with generated expressions."""

import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from tfds_refcoco import masks
from tfds_refcoco.console import progress_stream
from tfds_refcoco.errors import DataError
from tfds_refcoco.expressions.sample import Referent, sample_referents
from tfds_refcoco.expressions.scene import Annotation, Scene, make_scene
from tfds_refcoco.expressions.views import sample_views, view_annotations, view_pixels
from tfds_refcoco.expressions.words import make_vocabulary
from tfds_refcoco.raw import fields
from tfds_refcoco.raw.coco import Instances, read_instances
from tfds_refcoco.raw.custom_writer import (
    COPIES,
    CustomWriter,
    check_names,
    choose_splits,
    digest,
)
from tfds_refcoco.raw.files import RawFile, find_file, write_bytes
from tfds_refcoco.raw.images import STORED
from tfds_refcoco.raw.problems import Problems

VAL = 0.1  # fraction of the images
MOST_VIEWS = MOST_DRAWS = 100  # per image
_GROUPS = "crowds (iscrowd) were skipped; CVAT sets iscrowd for all masks: set it to 0 in its files"


@dataclass(frozen=True)
class Summary:
    """Statistics of the generated expressions.

    Attributes:
      path: path of custom.json.
      images: number of images with sentences by split, including views.
      kinds: number of sentences by split and kind.
      objects: number of referents.
      words: number of words.
      left_out: number of images without sentences.
      notes: notes on changes and skipped items.
    """

    path: Path
    images: Counter[str]
    kinds: dict[str, Counter[str]]
    objects: int
    words: int
    left_out: int
    notes: str

    @property
    def sentences(self) -> int:
        """Number of sentences."""
        return sum(kinds.total() for kinds in self.kinds.values())


def generate_expressions(
    coco: Path,
    image_dir: Path,
    out: Path,
    *,
    seed: int = 0,
    val: float = VAL,
    test: float = 0.0,
    views: int = 0,
    draws: int = 1,
    words: Path | None = None,
    loose: bool = False,
    progress: bool = True,
) -> Summary:
    """Writes `out/custom.json` with sentences for the objects of a COCO annotation file.

    Every sentence refers to exactly one object. The sentences of an image depend only on the seed,
    its annotations and its pixels. Pictures with the same bytes are in the same split. Views, only
    of `train` images, are written to `out/copies/views`.

    Args:
      coco: an annotation file such as instances_train2017.json.
      image_dir: folder of the images, which are referenced instead of copied.
      out: output folder of custom.json.
      seed: any integer.
      val: fraction of the images, at least one, for the split `val`.
      test: fraction of the images for the split `test`; 0 for no test split.
      views: number of additional views per `train` image: its mirror image, then random crops.
      draws: number of times to sample sentences for a picture; duplicates are removed.
      words: a JSON file of nouns by category; see `words.make_vocabulary`.
      loose: whether to use `english.LOOSE_NOUNS` for people in `train`.
      progress: whether to show a progress bar.

    Raises:
      DataError: a file is missing, a field is invalid, or no image gets a sentence.
    """
    if not 0 < val < 1:
        raise DataError(f"val: {val} is not a fraction of the images; expected 0 < val < 1.")
    if not 0 <= test < 1 - val:
        raise DataError(f"test: {test} must be at least 0 and less than 1 - val = {1 - val}.")
    if not 0 <= views <= MOST_VIEWS:
        raise DataError(f"views: {views} is not between 0 and {MOST_VIEWS}.")
    if not 1 <= draws <= MOST_DRAWS:
        raise DataError(f"draws: {draws} is not between 1 and {MOST_DRAWS}.")
    if not coco.is_file():
        raise DataError(f"{coco}: no such file.")
    instances = read_instances(RawFile(coco), Problems())
    vocabulary = make_vocabulary(instances.categories.values(), words)
    by_image: defaultdict[int, list[tuple[int, dict[str, Any]]]] = defaultdict(list)
    for position, row in instances.annotations.values():
        image_id = fields.number(row, "image_id", f"{coco}: annotations[{position}]")
        if image_id not in instances.images:
            raise DataError(f"{coco}: annotations[{position}].image_id: no image {image_id}.")
        by_image[image_id].append((position, row))
    files = _find_images(coco, image_dir, [instances.images[i] for i in by_image])
    shares = {"val": val} | ({"test": test} if test else {})
    held_out = choose_splits(list(files.values()), seed, shares)
    writer = CustomWriter(out)
    # A view's ids are its picture's ids plus a multiple of these steps.
    steps = _step(by_image), _step(instances.annotations)
    if views and max(steps) * (views + 1) >= 1 << 63:
        raise DataError(f"{coco}: its ids are too large to number views; renumber them.")
    images: Counter[str] = Counter()
    kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
    objects = count = left_out = 0
    for image_id in tqdm(
        sorted(by_image),
        "expressions",
        unit="image",
        disable=not progress,
        file=progress_stream(),
    ):
        image = instances.images[image_id]
        split = held_out.get(files[image["file_name"]], "train")
        size = image["width"], image["height"]
        where = f"{coco}: image id {image_id}"
        path, *_ = writer.image_size(files[image["file_name"]], size, where)
        annotations = _annotations(by_image[image_id], instances, size)
        if groups := sum(annotation.crowd for annotation in annotations):
            writer.notes[_GROUPS] += groups
        original = _Picture(path, image_id, _pixels(path), annotations)
        counted = 0
        for picture in (original, *_views(original, seed, views if split == "train" else 0)):
            height, width = picture.pixels.shape[:2]
            scene = make_scene(picture.annotations, width, height, picture.pixels)
            rng = np.random.default_rng(digest(f"{seed} {picture.name}".encode()))
            held_back = split != "train"
            referents = sample_referents(
                rng,
                scene,
                vocabulary,
                held_back=held_back,
                loose=loose and not held_back,
                draws=draws,
            )
            if not referents:
                continue
            file = path if picture is original else _save(picture, out / COPIES / "views")
            row = _row(referents, scene, picture, steps)
            writer.add(file, {"split": split, "id": image_id + steps[0] * picture.number} | row)
            counted += 1
            kinds[split].update(sentence["kind"] for sentence in row["sentences"])
            objects += len(row["objects"])
            count += sum(len(sentence["text"].split()) for sentence in row["sentences"])
        images[split] += counted
        left_out += not counted
    written = writer.write()
    notes = writer.describe() if writer.notes else ""
    return Summary(written, images, dict(kinds), objects, count, left_out, notes)


def _find_images(coco: Path, image_dir: Path, rows: Sequence[dict[str, Any]]) -> dict[str, Path]:
    """Finds the images by their names in the annotations, with or without folders."""
    files, missing = {}, []
    for row in rows:
        name = row["file_name"].replace("\\", "/")
        path = find_file(image_dir, name) or find_file(image_dir, Path(name).name)
        if path is None:
            missing.append(name)
        else:
            files[row["file_name"]] = path
    if missing:
        raise DataError(
            f"{len(missing)} images named in {coco} are missing in {image_dir}, first {missing[0]}."
        )
    check_names(files.items())
    return files


def _annotations(
    rows: Sequence[tuple[int, dict[str, Any]]], instances: Instances, size: tuple[int, int]
) -> list[Annotation]:
    width, height = size
    annotations = []
    for position, row in rows:
        where = f"{instances.file}: annotations[{position}]"
        category = fields.number(row, "category_id", where)
        if category not in instances.categories:
            raise DataError(f"{where}.category_id: {category} is not among the categories.")
        shape: Any = fields.field(row, "segmentation", (list, dict), where)
        if not shape:
            raise DataError(
                f"{where}.segmentation: a box has no mask; add a mask or remove the annotation."
            )
        # Polygons, an RLE or, as the importers read them, a list of RLEs.
        several = isinstance(shape, list) and all(isinstance(part, dict) for part in shape)
        parts = shape if several else [shape]
        try:
            encoded = [masks.from_segmentation(part, height, width) for part in parts]
            counts = masks.union(encoded, height, width)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        name, crowd = instances.categories[category], bool(row.get("iscrowd"))
        annotations.append(Annotation(row["id"], name, counts, crowd))
    return annotations


def _pixels(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=STORED) as picture:
            return np.asarray(picture.convert("RGB"), np.uint8)
    except Exception as error:  # decoders raise any type
        raise DataError(f"{path}: damaged ({error}); download it again.") from error


@dataclass(frozen=True)
class _Picture:
    """A picture (number 0) or one of its views."""

    path: Path
    image_id: int
    pixels: NDArray[np.uint8]
    annotations: list[Annotation]
    number: int = 0

    @property
    def name(self) -> str:
        return f"{self.image_id}_{self.number}" if self.number else str(self.image_id)


def _views(picture: _Picture, seed: int, number: int) -> Iterator[_Picture]:
    height, width = picture.pixels.shape[:2]
    rng = np.random.default_rng(digest(f"{seed} {picture.image_id} views".encode()))
    for i, view in enumerate(sample_views(rng, width, height, number), start=1):
        yield replace(
            picture,
            pixels=view_pixels(picture.pixels, view),
            annotations=view_annotations(picture.annotations, width, height, view),
            number=i,
        )


def _save(view: _Picture, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{view.name}.jpg"
    encoded = io.BytesIO()
    Image.fromarray(view.pixels).save(encoded, "jpeg", quality=95)
    write_bytes(path, encoded.getvalue())
    return path


def _step(ids: Iterable[int]) -> int:
    return int(10 ** len(str(max(ids, default=0))))


def _row(
    referents: Sequence[Referent], scene: Scene, picture: _Picture, steps: tuple[int, int]
) -> dict[str, Any]:
    """Returns the objects and sentences of a picture, as in custom.json."""
    categories = Counter(thing.category for thing in scene.things if not thing.crowd)
    counts = {a.ann_id: a.counts.decode("ascii") for a in picture.annotations}
    objects, sentences = [], []
    for number, referent in enumerate(referents):
        thing = scene.things[referent.index]
        rle = {"size": [scene.height, scene.width], "counts": counts[thing.ann_id]}
        objects.append(
            {
                "id": thing.ann_id + steps[1] * picture.number,
                "category": thing.category,
                "same_category": categories[thing.category],
                "mask": {"rle": rle},
            }
        )
        sentences += [
            {"text": expression.text, "objects": [number], "kind": expression.kind}
            for expression in referent.expressions
        ]
    return {"objects": objects, "sentences": sentences}
