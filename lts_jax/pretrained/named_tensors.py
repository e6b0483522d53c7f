"""Loads the tensors of a published file into a network; every tensor must be accounted for."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lts_jax.errors import ConfigError
from lts_jax.pretrained.layout import untrained
from lts_jax.pretrained.tables import TABLES, Table
from lts_jax.pretrained.tensor_file import read_tensors

_LEAVES = {
    "kernel": ("weight",),
    "embedding": ("weight",),
    "scale": ("weight", "gamma"),  # bert-base-uncased uses TensorFlow's names for LayerNorm
    "bias": ("bias", "beta"),
    "mean": ("running_mean",),
    "var": ("running_var",),
}
# Names of the leaves for `untrained`. Embedding tables are not checked, because they may be zeros:
# segment embeddings of a BERT trained with one segment, and Swin's relative positions.
_JUDGED = {"kernel": "weights", "scale": "scale", "var": "var"}
_LIMIT = 1e9  # upper bound for weights and statistics: larger numbers indicate damage

Flat = dict[str, NDArray[np.float32]]


def load_network(
    path: Path, family: str, stages: Sequence[int], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Flat, dict[str, Any]]:
    """Reads the arrays of a network from a file with the names of `tables.TABLES[family]`.

    Args:
      path: path of a .safetensors or `torch.save` file.
      family: family of the network.
      stages: number of blocks in each stage; for BERT, the number of layers.
      shapes: shapes of all arrays of the network, by path: `params/…` and `batch_stats/…`.

    Returns:
      The arrays by path, float32, and for the run's metadata: `format`, `origin_project`, the
      numbers of `loaded` and `skipped` tensors, and the `new` arrays that no file has: norms of
      the taps, initialized to the identity.

    Raises:
      ConfigError: the file is missing, damaged, or not of exactly this network.
    """
    tensors = read_tensors(path)
    table = TABLES[family]
    prefix = _recognize(path, tensors, table)
    modules = table.modules(stages)
    loaded: Flat = {}
    used: set[str] = set()
    new = []
    for ours, shape in shapes.items():
        module, leaf = ours.partition("/")[2].rpartition("/")[::2]
        if module not in modules:
            raise AssertionError(f"{table.name}: no name for {ours}")
        names = _candidates(modules[module], leaf)
        name = next((prefix + n for n in names if prefix + n in tensors), None)
        if name:
            loaded[ours] = _fit(path, name, tensors[name], leaf, shape)
            used.add(name)
        elif "" in modules[module]:
            new.append(ours)
            loaded[ours] = np.full(shape, leaf == "scale", np.float32)
        else:
            raise ConfigError(
                f"{path}: missing tensor {prefix}{names[0]}: the file is incomplete, or of another "
                f"network than one with {_sizes(stages)} blocks; set model.backbone and its sizes"
            )
    skipped = [name for name in tensors if name not in used]
    for name in skipped:
        if not table.ignored.fullmatch(name.removeprefix(prefix)):
            raise ConfigError(
                f"{path}: tensor {name} belongs to no layer of this network with {_sizes(stages)} "
                "blocks: set model.backbone and its sizes to those of the file"
            )
        _check_finite(path, name, tensors[name])
    return loaded, {
        "format": "safetensors" if path.suffix == ".safetensors" else "PyTorch",
        "origin_project": table.name,
        "loaded": len(used),
        "skipped": len(skipped),
        "new": new,
    }


def _recognize(path: Path, tensors: Mapping[str, Any], table: Table) -> str:
    for prefix in ("", *table.wraps):
        if prefix + table.first in tensors:
            return prefix
    some = ", ".join(list(tensors)[:3]) + (", …" if len(tensors) > 3 else "")
    raise ConfigError(
        f"{path}: its tensors, {some}, do not have the names of {table.name}: missing "
        f"{table.first}; use a file of that project"
    )


def _candidates(modules: Sequence[str], leaf: str) -> list[str]:
    """Returns the possible names of a tensor; some parameters have no separate module."""
    if leaf not in _LEAVES or modules[0].endswith("layer_scale_parameter"):
        return [module for module in modules if module]
    return [f"{module}.{end}" for module in modules if module for end in _LEAVES[leaf]]


def _fit(
    path: Path, name: str, tensor: NDArray[Any], leaf: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Converts a tensor from PyTorch's layout to this project's."""
    if tensor.dtype.kind != "f":
        raise ConfigError(f"{path}: tensor {name} has dtype {tensor.dtype}, not floating point")
    array = tensor
    if leaf == "kernel" and tensor.ndim == 4:
        array = tensor.transpose(2, 3, 1, 0)  # from out, in, height, width
        fits = shape in (array.shape, (math.prod(array.shape[:3]), array.shape[3]))
    elif leaf == "kernel" and tensor.ndim == 2:
        array = tensor.T
        ends = [(math.prod(shape[:i]), math.prod(shape[i:])) for i in range(1, len(shape))]
        fits = array.shape in ends
    else:  # biases of attention heads are flattened in the file
        fits = array.shape in (shape, (math.prod(shape),))
    if not fits:
        raise ConfigError(
            f"{path}: tensor {name} has shape {list(tensor.shape)}, which does not match "
            f"{list(shape)}: the file is of a network of another size"
        )
    _check_finite(path, name, array)
    if what := untrained(_JUDGED.get(leaf, leaf), array, constants=True):
        raise ConfigError(f"{path}: tensor {name} {what}")
    if leaf == "var" and (array < 0).any():
        raise ConfigError(
            f"{path}: tensor {name} contains a negative variance: the file is damaged; download it "
            "again"
        )
    return np.ascontiguousarray(array.reshape(shape), np.float32)


def _check_finite(path: Path, name: str, values: NDArray[Any]) -> None:
    if values.dtype.kind == "f" and not (np.abs(values) <= _LIMIT).all():
        raise ConfigError(
            f"{path}: tensor {name} contains a non-finite or implausible value: the file is "
            "damaged; download it again"
        )


def _sizes(stages: Sequence[int]) -> str:
    return ", ".join(map(str, stages))
