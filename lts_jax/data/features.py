"""Image features on disk: memory-mapped arrays of a row for each image, written once."""

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
    """The features of N images: for each tap of a backbone a float array `[N, h, w, C]`.

    Safe to read from many threads.

    Args:
      folder: that `write_features` made.

    Raises:
      ConfigError: a file is missing or damaged.
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
                raise ValueError(f"its arrays are {shapes}, not {described['shapes']}")
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise ConfigError(
                f"{folder}: cached features cannot be read ({error}): remove the folder, and they "
                "are computed again"
            ) from error

    def __len__(self) -> int:
        """Returns N."""
        return len(self._taps[0])

    def read(self, images: Sequence[int]) -> tuple[NDArray[np.floating], ...]:
        """Returns the features of K images, by tap `[K, h, w, C]`."""
        return tuple(np.stack([tap[i] for i in images]) for tap in self._taps)


def write_features(
    folder: Path, number: int, batches: Iterable[Sequence[NDArray[np.floating]]], dtype: str
) -> None:
    """Writes a folder of features, the whole or none of it.

    Args:
      folder: to write; one that is there already stays.
      number: of images, N.
      batches: of images in a row, by tap `[K, h, w, C]`; what is beyond N is left out.
      dtype: to store.

    Raises:
      ConfigError: a feature is not finite in this type.
      OSError: it cannot be written.
    """
    shapes: list[list[object]] = []
    count = 0
    with (
        contextlib.suppress(FileExistsError),  # another process was faster
        whole_folder(folder) as temporary,
        contextlib.ExitStack() as stack,
    ):
        files: list[BinaryIO] = []
        for batch in batches:
            kept = min(len(batch[0]), number - count)
            for i, values in enumerate(batch):
                if i == len(files):  # the first batch
                    # Not mapped to be written: a full disk would end the process without a word.
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
                        f"train.cache_features={dtype}: features of image {count} or one of the "
                        f"{kept - 1} after it are not finite in {dtype}: take float32, and check "
                        "model.backbone_weights"
                    )
                files[i].write(stored.data)
            count += kept
        stack.close()
        assert count == number, (count, number)
        write_json(temporary / _DESCRIPTION, {"taps": len(files), "shapes": shapes})


def _name(tap: int) -> str:
    return f"tap{tap}.npy"
