"""What the workers of pytest-xdist share."""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

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


def write_custom(
    raw: Path, split: Split, images: Mapping[str, Iterable[int]], *, sentences: int
) -> None:
    """Writes a raw folder of `custom` with pictures of another set's split.

    Args:
      raw: the folder, made here.
      split: whose records are taken, with their objects.
      images: record numbers by the name of the new split.
      sentences: about each picture.
    """
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
