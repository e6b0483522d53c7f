"""Cached image features on disk: memory-mapped arrays with one row per image."""

import contextlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from lts_jax.errors import ConfigError
from lts_jax.io.files import whole_folder, write_json

_DESCRIPTION = "features.json"


class FeatureFiles:
    """The features of N images: a float array `[N, h, w, C]` for each feature level of a backbone.

    Reading is thread-safe.

    Args:
      folder: directory written by `write_features`.

    Raises:
      ConfigError: a file is missing or corrupt.
    """

    def __init__(self, folder: Path) -> None:
        try:
            described = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
            self._taps = [
                np.load(folder / _name(i), mmap_mode="r", allow_pickle=False)
                for i in range(described["taps"])
            ]
            shapes = [[str(tap.dtype), *tap.shape] for tap in self._taps]
            if shapes != described["shapes"]:
                raise ValueError(f"expected arrays {described['shapes']}, but got {shapes}")
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{folder}: cannot read the cached features ({error}); delete the directory to "
                "recompute them"
            ) from error

    def __len__(self) -> int:
        """Returns the number of images N."""
        return len(self._taps[0])

    def read(self, images: Sequence[int]) -> tuple[NDArray[np.floating], ...]:
        """Returns the features of K images: `[K, h, w, C]` for each level."""
        return tuple(np.stack([tap[i] for i in images]) for tap in self._taps)


def write_features(
    folder: Path, number: int, batches: Iterable[Sequence[NDArray[np.floating]]], dtype: str
) -> None:
    """Writes a directory of features atomically.

    Args:
      folder: directory to write; an existing one is kept.
      number: number of images N.
      batches: features of consecutive images, `[K, h, w, C]` for each level; padding after the
        N-th image is dropped.
      dtype: dtype to store.

    Raises:
      ConfigError: a feature is not finite in this dtype.
      OSError: the directory cannot be written.
    """
    shapes: list[list[object]] = []
    count = 0
    with (
        contextlib.suppress(FileExistsError),  # another process has written it already
        whole_folder(folder) as temporary,
        contextlib.ExitStack() as stack,
    ):
        files: list[BinaryIO] = []
        for batch in batches:
            kept = min(len(batch[0]), number - count)
            for i, values in enumerate(batch):
                if i == len(files):  # the first batch
                    # Writing to a memory map on a full disk would kill the process silently.
                    files.append(stack.enter_context((temporary / _name(i)).open("wb")))
                    shape = (number, *values.shape[1:])
                    shapes.append([dtype, *shape])
                    header = {
                        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
                        "fortran_order": False,
                        "shape": shape,
                    }
                    np.lib.format.write_array_header_1_0(files[i], header)
                with np.errstate(over="ignore"):
                    stored = np.ascontiguousarray(values[:kept], dtype)
                if not np.isfinite(stored).all():
                    raise ConfigError(
                        f"train.cache_features={dtype}: the features of images {count} to "
                        f"{count + kept - 1} are not all finite in {dtype}; use float32, and check "
                        "model.backbone_weights"
                    )
                files[i].write(stored.data)
            count += kept
        stack.close()
        assert count == number, (count, number)
        write_json(temporary / _DESCRIPTION, {"taps": len(files), "shapes": shapes})


def _name(tap: int) -> str:
    return f"tap{tap}.npy"
