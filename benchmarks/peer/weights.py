"""Converts weights, BatchNorm statistics and gradients between `lts_jax.models.LTS` and `TorchLTS`.

One table is used in both directions. Flax stores a convolution as `[kh, kw, in, out]`, a linear
layer and a 1×1 convolution as `[in, out]`, attention as `[in, heads, out / heads]`, and a GRU gate
by gate; PyTorch stores outputs first and stacks a GRU's gates.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict
from torch import Tensor, nn

from benchmarks.peer.encoders import GRU
from benchmarks.peer.lts import Attention, TorchLTS

COLLECTIONS = ("params", "batch_stats")

# Modules that the two networks name differently, from PyTorch to Flax, applied in order.
_RENAMES = (
    (r"\.stages\.(stage\d+)\.", r".\1_"),
    (r"(_block\d+)\.reduce\.", r"\1.ConvNormAct_0."),
    (r"(_block\d+)\.expand\.", r"\1.ConvNormAct_1."),
    (r"\.neck\.(\d+)\.", r".neck\1_"),
    (r"\.(forward|backward)_gru\.", r".\1.cell."),
    (r"\.aspp\.", r".aspp_"),
)


class Row(NamedTuple):
    """A PyTorch tensor and the corresponding Flax arrays.

    Attributes:
      name: name of the tensor in the state dict.
      paths: paths of the arrays, joined by slashes; several are stacked along the first axis.
      shape: shape of one Flax array.
      axes: transposition of a Flax array to PyTorch's layout.
    """

    name: str
    paths: tuple[str, ...]
    shape: tuple[int, ...]
    axes: tuple[int, ...]


def to_torch(variables: Mapping[str, Any], model: TorchLTS) -> dict[str, Tensor]:
    """Returns a state dict for `model` from `{"params": …, "batch_stats": …}`.

    Raises:
      ValueError: an array is missing, unexpected, or of another shape.
    """
    arrays = {k: np.asarray(x) for k, x in flatten_dict(variables, sep="/").items()}
    rows = table(model)
    _check_names({path for row in rows for path in row.paths}, set(arrays))
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    state = {n: torch.zeros((), dtype=torch.long) for n in shapes if _is_counter(n)}
    for row in rows:
        for path in row.paths:
            _check_shape(path, row.shape, arrays[path].shape)
        parts = [arrays[path].transpose(row.axes) for path in row.paths]
        # Copy: JAX arrays are read-only, and the optimizer writes in place.
        state[row.name] = torch.tensor(np.concatenate(parts).reshape(shapes[row.name]))
    return state


def to_flax(
    tensors: Mapping[str, Tensor], model: TorchLTS, collections: Collection[str] = COLLECTIONS
) -> dict[str, Any]:
    """Returns the inverse: NumPy arrays in Flax's tree.

    Args:
      tensors: a state dict, or anything with the same keys and shapes, such as gradients.
      model: the network of the tensors.
      collections: the collections to convert: ("params",) for gradients.

    Raises:
      ValueError: a tensor is missing, unexpected, or of another shape.
    """
    rows = [row for row in table(model) if row.paths[0].split("/")[0] in collections]
    _check_names({row.name for row in rows}, {name for name in tensors if not _is_counter(name)})
    shapes = {name: tuple(x.shape) for name, x in model.state_dict().items()}
    arrays: dict[str, np.ndarray] = {}
    for row in rows:
        tensor = tensors[row.name].detach().cpu().numpy()
        _check_shape(row.name, shapes[row.name], tensor.shape)
        transposed = tuple(row.shape[axis] for axis in row.axes)
        for path, part in zip(row.paths, np.split(tensor, len(row.paths)), strict=True):
            arrays[path] = part.reshape(transposed).transpose(np.argsort(row.axes)).copy()
    return unflatten_dict(arrays, sep="/")


def table(model: TorchLTS) -> list[Row]:
    """Returns one row per tensor of the state dict, except for BatchNorm's step counters."""
    rows = list(_rows(model, ""))
    names = {name for name in model.state_dict() if not _is_counter(name)}
    _check_names(names, {row.name for row in rows})
    return rows


def _rows(module: nn.Module, prefix: str) -> Iterator[Row]:
    """Yields the rows of a module and its submodules; `prefix` is empty or ends with a dot."""
    if isinstance(module, Attention):
        for name in ("query", "key", "value"):
            linear = getattr(module, name)
            split = (module.heads, linear.out_features // module.heads)
            shape = (linear.in_features, *split)
            yield _row(f"{prefix}{name}.weight", "kernel", shape, (1, 2, 0))
            yield _row(f"{prefix}{name}.bias", "bias", split)
        yield _row(f"{prefix}out.weight", "kernel", (*split, linear.out_features), (2, 0, 1))
        yield _row(f"{prefix}out.bias", "bias", (linear.out_features,))
        return
    match module:
        case nn.Conv2d(kernel_size=(1, 1)) | nn.Linear():
            outputs, inputs = module.weight.shape[:2]
            yield _row(f"{prefix}weight", "kernel", (inputs, outputs), (1, 0))
        case nn.Conv2d():
            outputs, inputs, *kernel = module.weight.shape
            yield _row(f"{prefix}weight", "kernel", (*kernel, inputs, outputs), (3, 2, 0, 1))
        case nn.ConvTranspose2d():
            inputs, outputs, *kernel = module.weight.shape
            yield _row(f"{prefix}weight", "kernel", (*kernel, inputs, outputs), (2, 3, 0, 1))
        case nn.Embedding():
            yield _row(f"{prefix}weight", "embedding", tuple(module.weight.shape))
        case nn.BatchNorm2d() | nn.LayerNorm():
            yield _row(f"{prefix}weight", "scale", tuple(module.weight.shape))
        case GRU():
            yield from _gru_rows(module, prefix)
    if isinstance(module, nn.BatchNorm2d):
        size = (module.num_features,)
        yield _row(f"{prefix}running_mean", "mean", size, collection="batch_stats")
        yield _row(f"{prefix}running_var", "var", size, collection="batch_stats")
    if isinstance(bias := getattr(module, "bias", None), nn.Parameter):
        yield _row(f"{prefix}bias", "bias", tuple(bias.shape))
    for name, child in module.named_children():
        yield from _rows(child, f"{prefix}{name}.")


def _gru_rows(gru: GRU, prefix: str) -> Iterator[Row]:
    inputs, size = gru.weight_ih.shape[1], gru.features
    cell = _path(prefix)
    for name, gates, leaf, shape in (
        ("weight_ih", ("ir", "iz", "in"), "kernel", (inputs, size)),
        ("weight_hh", ("hr", "hz", "hn"), "kernel", (size, size)),
        ("bias_ih", ("ir", "iz", "in"), "bias", (size,)),
        ("bias_hn", ("hn",), "bias", (size,)),
    ):
        paths = tuple(f"params/{cell}{gate}/{leaf}" for gate in gates)
        yield Row(prefix + name, paths, shape, tuple(reversed(range(len(shape)))))


def _row(
    name: str,
    leaf: str,
    shape: tuple[int, ...],
    axes: tuple[int, ...] | None = None,
    collection: str = "params",
) -> Row:
    prefix = name.rpartition(".")[0] + "."
    paths = (f"{collection}/{_path(prefix)}{leaf}",)
    return Row(name, paths, shape, tuple(range(len(shape))) if axes is None else axes)


def _path(prefix: str) -> str:
    for pattern, replacement in _RENAMES:
        prefix = re.sub(pattern, replacement, prefix)
    return prefix.replace(".", "/")


def _is_counter(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _check_names(expected: set[str], names: set[str]) -> None:
    if expected != names:
        missing, extra = sorted(expected - names), sorted(names - expected)
        raise ValueError(f"missing: {missing}; unexpected: {extra}")


def _check_shape(name: str, expected: tuple[int, ...], shape: tuple[int, ...]) -> None:
    if shape != expected:
        raise ValueError(f"{name} has shape {shape}, not {expected}")
