"""Fixture data that pytest-xdist workers share."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

import tfds_refcoco
from tfds_refcoco.records.split import Split


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object], *, copied: bool
) -> Path:
    """Creates a folder in the first worker that needs it.

    Args:
      factory: of temporary folders.
      name: of the folder.
      make: fills the folder.
      copied: whether each worker gets a writable copy.
    """
    shared = factory.getbasetemp()
    if shared.name.startswith("popen-"):  # a worker's folder in the session's folder
        shared = shared.parent
    original, done = shared / f"{name}-original", shared / f"{name}-done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(original, ignore_errors=True)  # incomplete
            make(original)
            done.touch()
    if not copied:
        return original
    copy = factory.mktemp(name) / name
    shutil.copytree(original, copy)
    return copy


def add_custom(
    out: Path, shapes_dir: Path, images: Mapping[str, Iterable[int]], *, sentences: int
) -> None:
    """Creates a data folder with `shapes` and a dataset `custom` of some images of `shapes`.

    Args:
      out: the new folder.
      shapes_dir: the data folder with `shapes`.
      images: record numbers in the train split of `shapes`, by split of `custom`.
      sentences: number per image of `custom`.
    """
    (out / "tfds_refcoco").mkdir(parents=True)
    (out / "tfds_refcoco" / "shapes").symlink_to(shapes_dir / "tfds_refcoco" / "shapes")
    train = tfds_refcoco.open_dataset(out, "shapes").split("train")
    _write_custom(out / "raw", train, images, sentences)
    tfds_refcoco.build("custom", out, out / "raw", progress=False)


def _write_custom(
    raw: Path, split: Split, images: Mapping[str, Iterable[int]], sentences: int
) -> None:
    raw.mkdir()
    rows = []
    for name, numbers in images.items():
        for number in numbers:
            record = split.record(number)
            file = f"{number}.jpg"
            (raw / file).write_bytes(record["image"])
            size = [record["height"], record["width"]]
            counts = [mask.decode() for mask in record["objects"]["mask"]]
            objects = [{"mask": {"rle": {"size": size, "counts": c}}} for c in counts]
            texts = [
                {"text": f"thing {k} of {number}", "objects": [k % len(objects)]}
                for k in range(sentences)
            ]
            rows.append({"file": file, "split": name, "objects": objects, "sentences": texts})
    (raw / "custom.json").write_text(json.dumps({"images": rows}))
