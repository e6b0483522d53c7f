"""Reads all tensors of a .safetensors or `torch.save` file as NumPy arrays."""

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from lts_jax.errors import ConfigError
from lts_jax.pretrained.torch_checkpoint import load_tensors, to_numpy


def read_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Returns the tensors by name; bfloat16 becomes float32.

    Raises:
      ConfigError: the file is missing or damaged, or requires PyTorch, which is not installed.
    """
    try:
        if path.suffix != ".safetensors":
            return {name: to_numpy(path, name, x) for name, x in load_tensors(path).items()}
        with safe_open(path, "numpy") as file:
            return {name: _widen(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except ConfigError:  # a ValueError, see below
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror or error})") from error
    except (SafetensorError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): download it again") from error


def _widen(array: NDArray[Any]) -> NDArray[Any]:
    return array.astype(np.float32) if array.dtype == ml_dtypes.bfloat16 else array
