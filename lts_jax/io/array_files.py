"""Reads this project's .npz files: arrays of declared types and shapes, and of a bounded size."""

import math
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from lts_jax.errors import ConfigError

MOST_BYTES = 2**32
"""Size of the largest array that is read: the heatmaps of 400,000 sentences at 416 × 416 pixels."""

_ERRORS = (
    EOFError,
    KeyError,
    NotImplementedError,  # an unknown compression
    OSError,
    RuntimeError,  # a password
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(
    path: Path, wanted: Mapping[str, tuple[type, Sequence[int | None]]], fix: str
) -> dict[str, np.ndarray]:
    """Reads arrays of a file, whose headers are checked before anything is allocated.

    Args:
      path: of the file.
      wanted: by name the dtype and the shape; None is an axis of any length.
      fix: ends the error; says what makes a good file.

    Raises:
      ConfigError: the file is missing or damaged, or an array is missing, or of another type or
        shape, or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            arrays = {}
            for name, (dtype, shape) in wanted.items():
                with archive.open(f"{name}.npy") as file:
                    _check_header(file, np.dtype(dtype), shape, f"{path}: {name}", fix)
                with archive.open(f"{name}.npy") as file:
                    arrays[name] = np.asarray(npy.read_array(file, allow_pickle=False))
            return arrays
    except ConfigError:
        raise
    except FileNotFoundError:
        raise ConfigError(f"{path}: missing; {fix}") from None
    except _ERRORS as error:
        raise ConfigError(f"{path}: damaged ({type(error).__name__}: {error}); {fix}") from error


def _check_header(
    file: IO[bytes], dtype: np.dtype, wanted: Sequence[int | None], where: str, fix: str
) -> None:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, found = read(file)
    fits = len(shape) == len(wanted) and all(
        a == b or b is None for a, b in zip(shape, wanted, strict=True)
    )
    if found != dtype or not fits:
        expected = ", ".join("any" if n is None else str(n) for n in wanted)
        raise ConfigError(f"{where}: {found} {list(shape)}, expected {dtype} [{expected}]; {fix}")
    if math.prod(shape) * dtype.itemsize > MOST_BYTES:
        raise ConfigError(
            f"{where}: {list(shape)} are more than {MOST_BYTES} bytes, the most that is read; {fix}"
        )
