"""The input pipeline in PyTorch: a `DataLoader` with typical per-sample code.

Images are JPEG files and each object's mask is an .npy file, as in MCN and later work.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lts_jax.data import examples, pipeline
from tfds_refcoco.records.split import Split


class Sample(NamedTuple):
    """One sentence."""

    image: str  # path of the JPEG
    mask: str  # path of the .npy, uint8 [h, w]
    tokens: list[int]  # without padding


def write_files(split: Split, folder: Path) -> None:
    """Writes each image of a split and the mask of each ref to separate files."""
    folder.mkdir(parents=True)
    for rows in pipeline.rows_by_image(split):
        number = int(split.index.record[rows[0]])
        record = split.record(number)
        (folder / f"{number}.jpg").write_bytes(record["image"])
        for row in rows:
            path = folder / f"{split.index.ref_id[row]}.npy"
            if not path.exists():
                sentence = int(split.index.sentence[row])
                mask = examples.read_mask(record, sentence, record["height"], record["width"])
                np.save(path, mask)


def list_samples(split: Split, folder: Path, preprocessing: examples.Preprocessing) -> list[Sample]:
    """Returns the samples of the files written by `write_files`, in index order."""
    samples = []
    for row, text in enumerate(split.index.text):
        words = preprocessing.sentence(text)
        samples.append(
            Sample(
                image=str(folder / f"{split.index.record[row]}.jpg"),
                mask=str(folder / f"{split.index.ref_id[row]}.npy"),
                tokens=words["tokens"][: words["length"]].tolist(),
            )
        )
    return samples


class Samples(Dataset[dict[str, Any]]):
    """Reads, letterboxes and normalises one sample.

    Args:
      samples: samples to read.
      size: side of the network's input, pixels.
      max_words: longer sentences are truncated, shorter ones padded with 0.
      normalize: whether to convert images to float32 `[3, size, size]` in [0, 1]; otherwise they
        are uint8 `[size, size, 3]`.
    """

    def __init__(self, samples: list[Sample], size: int, max_words: int, normalize: bool) -> None:
        self.samples, self.size = samples, size
        self.max_words, self.normalize = max_words, normalize

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, number: int) -> dict[str, Any]:
        sample, size = self.samples[number], self.size
        flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
        read = cv2.imread(sample.image, flags)
        if read is None:
            raise FileNotFoundError(sample.image)
        image = cv2.cvtColor(read, cv2.COLOR_BGR2RGB)
        h, w = image.shape[:2]
        scale = size / max(h, w)
        new_h, new_w = round(h * scale), round(w * scale)
        top, left = (size - new_h) // 2, (size - new_w) // 2
        canvas = np.full((size, size, 3), 128, np.uint8)
        canvas[top : top + new_h, left : left + new_w] = cv2.resize(image, (new_w, new_h))
        mask = np.zeros((size, size), np.uint8)
        mask[top : top + new_h, left : left + new_w] = cv2.resize(
            np.load(sample.mask), (new_w, new_h), interpolation=cv2.INTER_NEAREST
        )
        tokens = np.zeros(self.max_words, np.int64)
        tokens[: len(sample.tokens)] = sample.tokens
        item: dict[str, Any] = {
            f"truth{stride}": torch.from_numpy(
                cv2.resize(mask, (size // stride, size // stride), interpolation=cv2.INTER_NEAREST)
            )
            for stride in (4, 8)
        }
        item |= {"tokens": torch.from_numpy(tokens), "length": len(sample.tokens)}
        pixels = torch.from_numpy(canvas)
        if self.normalize:
            pixels = pixels.permute(2, 0, 1).float().div_(255)
        return item | {"image": pixels}


def batches(dataset: Samples, batch_size: int, workers: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yields shuffled batches, epoch after epoch, read by persistent worker processes."""
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
        prefetch_factor=4,
        worker_init_fn=_start_worker,
        generator=torch.Generator().manual_seed(seed),
    )
    while True:
        yield from loader


def _start_worker(_: int) -> None:
    # There are as many workers as cores: additional threads would compete with them.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
