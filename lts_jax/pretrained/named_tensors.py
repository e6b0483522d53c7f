"""Fills a network with the tensors of a published file; every tensor is accounted for."""

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
    "scale": ("weight", "gamma"),  # bert-base-uncased has LayerNorms as TensorFlow names them
    "bias": ("bias", "beta"),
    "mean": ("running_mean",),
    "var": ("running_var",),
}
# What `untrained` calls them. Tables may be zeros: of segments, where a BERT was trained with one,
# and of Swin's relative positions.
_JUDGED = {"kernel": "weights", "scale": "scale", "var": "var"}
_LIMIT = 1e9  # an upper bound for weights and statistics: larger numbers mean damage

Flat = dict[str, NDArray[np.float32]]


def load_network(
    path: Path, family: str, stages: Sequence[int], shapes: Mapping[str, tuple[int, ...]]
) -> tuple[Flat, dict[str, Any]]:
    """Reads the arrays of a network from a file with the names of `tables.TABLES[family]`.

    Args:
      path: of a .safetensors file or of a file of `torch.save`.
      family: of the network.
      stages: blocks in each of its stages; of BERT, the number of layers.
      shapes: of all arrays of the network, by path: `params/…` and `batch_stats/…`.

    Returns:
      The arrays by path, float32, and for the run's record: `format`, `names`, how many tensors
      were `loaded` and `skipped`, and the arrays that no file has, `new`: norms of the taps, whose
      first values, ones and zeros, do nothing.

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
                f"{path}: no tensor {prefix}{names[0]}: this file is not of a network of "
                f"{_sizes(stages)} blocks, or is not complete"
            )
    skipped = [name for name in tensors if name not in used]
    for name in skipped:
        if not table.ignored.fullmatch(name.removeprefix(prefix)):
            raise ConfigError(
                f"{path}: tensor {name} belongs to no layer of this network of {_sizes(stages)} "
                "blocks: the file is of another one"
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
        f"{path}: its tensors, {some}, are not named as in {table.name}: no {table.first}"
    )


def _candidates(modules: Sequence[str], leaf: str) -> list[str]:
    """What a tensor may be named; a parameter that has no module of its own is one itself."""
    if leaf not in _LEAVES or modules[0].endswith("layer_scale_parameter"):
        return [module for module in modules if module]
    return [f"{module}.{end}" for module in modules if module for end in _LEAVES[leaf]]


def _fit(
    path: Path, name: str, tensor: NDArray[Any], leaf: str, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """A tensor in PyTorch's layout as an array of this project's."""
    if tensor.dtype.kind != "f":
        raise ConfigError(f"{path}: tensor {name} holds {tensor.dtype}, not floating point")
    array = tensor
    if leaf == "kernel" and tensor.ndim == 4:
        array = tensor.transpose(2, 3, 1, 0)  # from out, in, height, width
        fits = shape in (array.shape, (math.prod(array.shape[:3]), array.shape[3]))
    elif leaf == "kernel" and tensor.ndim == 2:
        array = tensor.T
        ends = [(math.prod(shape[:i]), math.prod(shape[i:])) for i in range(1, len(shape))]
        fits = array.shape in ends
    else:  # a bias of several heads is a list in the file
        fits = array.shape in (shape, (math.prod(shape),))
    if not fits:
        raise ConfigError(
            f"{path}: tensor {name} has the shape {list(tensor.shape)}, which does not fit "
            f"{list(shape)}: the file is of a network of another size"
        )
    _check_finite(path, name, array)
    if what := untrained(_JUDGED.get(leaf, leaf), array, constants=True):
        raise ConfigError(f"{path}: tensor {name} {what}")
    if leaf == "var" and (array < 0).any():
        raise ConfigError(f"{path}: tensor {name} holds a negative variance: the file is damaged")
    return np.ascontiguousarray(array.reshape(shape), np.float32)


def _check_finite(path: Path, name: str, values: NDArray[Any]) -> None:
    if values.dtype.kind == "f" and not (np.abs(values) <= _LIMIT).all():
        raise ConfigError(
            f"{path}: tensor {name} holds a number that is impossible: the file is damaged"
        )


def _sizes(stages: Sequence[int]) -> str:
    return ", ".join(map(str, stages))
