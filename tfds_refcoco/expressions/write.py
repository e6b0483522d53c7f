"""Reads COCO annotations and writes a custom.json of generated expressions for them."""

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

VAL = 0.1  # share of the images
MOST_VIEWS = MOST_DRAWS = 100  # of an image
_GROUPS = "groups (iscrowd) are not referred to; CVAT marks each of its masks so: set iscrowd to 0"


@dataclass(frozen=True)
class Summary:
    """What was generated.

    Attributes:
      path: of custom.json.
      images: by split the number of images that have a sentence, views among them.
      kinds: by split and kind the number of sentences.
      objects: referred to.
      words: of all sentences.
      left_out: images without any sentence.
      notes: what else there is to say.
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
    """Writes `out/custom.json`: sentences for the objects of a COCO annotation file.

    Every sentence means one object alone. What is said of an image depends on the seed, its
    annotations and its pixels, not on other images. Pictures of the same bytes are in one split.
    Views, which are written to `out/copies/views`, are of the images of `train` alone.

    Args:
      coco: a file such as instances_train2017.json.
      image_dir: folder of the images that it names; they are referenced, not copied.
      out: folder that custom.json is written to.
      seed: any integer.
      val: share of the images, at least one, that the split `val` takes.
      test: the same of the split `test`; 0 makes none.
      views: of each image of `train`, beside itself: its mirror image, then random crops.
      draws: how often sentences are drawn of a picture; each is written once.
      words: a JSON file of nouns by category, see `words.make_vocabulary`.
      loose: speak of people in `train` as `english.LOOSE_NOUNS` does.
      progress: whether to show a progress bar.

    Raises:
      DataError: a file is missing or a field is faulty; or nothing can be said of any image.
    """
    if not 0 < val < 1:
        raise DataError(f"val: {val} is no share of the images between 0 and 1.")
    if not 0 <= test < 1 - val:
        raise DataError(f"test: {test} is no share of the images that val, {val}, leaves.")
    if not 0 <= views <= MOST_VIEWS:
        raise DataError(f"views: {views} is no number from 0 to {MOST_VIEWS}.")
    if not 1 <= draws <= MOST_DRAWS:
        raise DataError(f"draws: {draws} is no number from 1 to {MOST_DRAWS}.")
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
    # A view has its picture's ids, so many of these steps on.
    steps = _step(by_image), _step(instances.annotations)
    if views and max(steps) * (views + 1) >= 1 << 63:
        raise DataError(f"{coco}: its ids are too large to number views; number it anew.")
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
        whole = _Picture(path, image_id, _pixels(path), annotations)
        counted = 0
        for picture in (whole, *_views(whole, seed, views if split == "train" else 0)):
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
            file = path if picture is whole else _save(picture, out / COPIES / "views")
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
    """Finds the images by the names that the annotations give them, with their folders or not."""
    found, missing = {}, []
    for row in rows:
        name = row["file_name"].replace("\\", "/")
        path = find_file(image_dir, name) or find_file(image_dir, Path(name).name)
        if path is None:
            missing.append(name)
        else:
            found[row["file_name"]] = path
    if missing:
        raise DataError(
            f"{len(missing)} images named in {coco} are missing in {image_dir}, the first is "
            f"{missing[0]}."
        )
    check_names(found.items())
    return found


def _annotations(
    rows: Sequence[tuple[int, dict[str, Any]]], instances: Instances, size: tuple[int, int]
) -> list[Annotation]:
    width, height = size
    found = []
    for position, row in rows:
        where = f"{instances.file}: annotations[{position}]"
        category = fields.number(row, "category_id", where)
        if category not in instances.categories:
            raise DataError(f"{where}.category_id: {category} is not among the categories.")
        shape: Any = fields.field(row, "segmentation", (list, dict), where)
        if not shape:
            raise DataError(f"{where}.segmentation: a box has no mask; draw one, or take it out.")
        # Polygons, an RLE or, as the importers read them, a list of RLEs.
        several = isinstance(shape, list) and all(isinstance(part, dict) for part in shape)
        parts = shape if several else [shape]
        try:
            encoded = [masks.from_segmentation(part, height, width) for part in parts]
            counts = masks.union(encoded, height, width)
        except DataError as error:
            raise DataError(f"{where}: {error}") from error
        name, crowd = instances.categories[category], bool(row.get("iscrowd"))
        found.append(Annotation(row["id"], name, counts, crowd))
    return found


def _pixels(path: Path) -> NDArray[np.uint8]:
    try:
        with Image.open(path, formats=STORED) as picture:
            return np.asarray(picture.convert("RGB"), np.uint8)
    except Exception as error:  # decoders raise what they like
        raise DataError(f"{path}: damaged ({error}); fetch the file again.") from error


@dataclass(frozen=True)
class _Picture:
    """A picture, number 0, or one of its views."""

    path: Path
    image_id: int
    pixels: NDArray[np.uint8]
    annotations: list[Annotation]
    number: int = 0

    @property
    def name(self) -> str:
        return f"{self.image_id}_{self.number}" if self.number else str(self.image_id)


def _views(whole: _Picture, seed: int, number: int) -> Iterator[_Picture]:
    height, width = whole.pixels.shape[:2]
    rng = np.random.default_rng(digest(f"{seed} {whole.image_id} views".encode()))
    for i, view in enumerate(sample_views(rng, width, height, number), start=1):
        yield replace(
            whole,
            pixels=view_pixels(whole.pixels, view),
            annotations=view_annotations(whole.annotations, width, height, view),
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
    """The objects and sentences of a picture, as in custom.json."""
    alike = Counter(thing.category for thing in scene.things if not thing.crowd)
    counts = {a.ann_id: a.counts.decode("ascii") for a in picture.annotations}
    objects, sentences = [], []
    for number, referent in enumerate(referents):
        thing = scene.things[referent.index]
        rle = {"size": [scene.height, scene.width], "counts": counts[thing.ann_id]}
        objects.append(
            {
                "id": thing.ann_id + steps[1] * picture.number,
                "category": thing.category,
                "same_category": alike[thing.category],
                "mask": {"rle": rle},
            }
        )
        sentences += [
            {"text": expression.text, "objects": [number], "kind": expression.kind}
            for expression in referent.expressions
        ]
    return {"objects": objects, "sentences": sentences}
