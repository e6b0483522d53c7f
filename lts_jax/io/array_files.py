"""Reads this project's .npz files, checking the type, shape and size of each array."""

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
"""Maximum size of an array: the heatmaps of 400,000 sentences at 416 × 416 pixels."""

_ERRORS = (
    EOFError,
    KeyError,
    NotImplementedError,  # unknown compression method
    OSError,
    RuntimeError,  # password required
    ValueError,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(
    path: Path, wanted: Mapping[str, tuple[type, Sequence[int | None]]], fix: str
) -> dict[str, np.ndarray]:
    """Reads arrays of a file; their headers are checked before memory is allocated.

    Args:
      path: path of the file.
      wanted: dtype and shape by name; None is an axis of any length.
      fix: end of the error message: how to get a valid file.

    Raises:
      ConfigError: the file is missing or damaged, or an array is missing, too large, or of
        another type or shape.
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
    shape, _, actual = read(file)
    fits = len(shape) == len(wanted) and all(
        a == b or b is None for a, b in zip(shape, wanted, strict=True)
    )
    if actual != dtype or not fits:
        expected = ", ".join("any" if n is None else str(n) for n in wanted)
        raise ConfigError(f"{where}: {actual} {list(shape)}, expected {dtype} [{expected}]; {fix}")
    if math.prod(shape) * dtype.itemsize > MOST_BYTES:
        raise ConfigError(
            f"{where}: {list(shape)} exceeds the maximum size of {MOST_BYTES} bytes; {fix}"
        )
