"""What the workers of pytest-xdist share."""

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
    """Makes a folder in the first worker that needs it.

    Args:
      factory: of temporary folders.
      name: of the folder.
      make: fills the folder.
      copied: each worker gets a copy of its own, to write to.
    """
    shared = factory.getbasetemp()
    if shared.name.startswith("popen-"):  # a worker's own, inside that of the session
        shared = shared.parent
    original, done = shared / f"{name}-original", shared / f"{name}-done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(original, ignore_errors=True)  # half made
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
    """Makes a data folder with the `shapes` of another one, and `custom` of some of its pictures.

    Args:
      out: the folder, made here.
      shapes_dir: the other one.
      images: record numbers in the train split of `shapes` by the name of the split in `custom`.
      sentences: about each picture of `custom`.
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
