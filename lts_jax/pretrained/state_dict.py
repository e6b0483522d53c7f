"""Extracts the backbone from a PyTorch state dict or from a file of this project."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lts_jax.errors import ConfigError
from lts_jax.pretrained.layout import LIMIT, Conv, Network, assemble, untrained
from lts_jax.pretrained.sources import describe_unknown, recognize

_NORM = {"bias": "bias", "scale": "weight", "mean": "running_mean", "var": "running_var"}
_OWN = "/backbone/"
_COUNTER = "num_batches_tracked"

Shapes = dict[str, tuple[int, ...]]
Read = Callable[[str], NDArray[Any]]
Loaded = tuple[dict[str, Any], dict[str, Any]]


def is_own(shapes: Shapes) -> bool:
    """Returns whether the tensors have this project's names."""
    return any(name.startswith("params/") for name in shapes)


def from_own(path: Path, shapes: Shapes, read: Read, network: Network) -> Loaded:
    """Like `from_torch`, for a file written by this project; without `conventions`."""
    used: set[str] = set()
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    for conv in network.convs:
        wide = (conv.kernel, conv.kernel, conv.inputs, conv.outputs)
        names = {
            "weights": (f"params{_OWN}{conv.path}/conv/kernel", wide if wide[0] > 1 else wide[2:]),
            **{k: (f"params{_OWN}{conv.path}/norm/{k}", wide[3:]) for k in ("scale", "bias")},
            **{k: (f"batch_stats{_OWN}{conv.path}/norm/{k}", wide[3:]) for k in ("mean", "var")},
        }
        arrays[conv.path] = {}
        for key, (name, wanted) in names.items():
            _check_shape(path, name, shapes, wanted, conv)
            # A run may have left initial values unchanged, but these are never zeros.
            values = _check_values(path, name, read(name), key, constants=True)
            if key == "weights":
                values = values.reshape(wide).transpose(3, 2, 0, 1)
            arrays[conv.path][key] = values
            used.add(name)
    others = [k for k in shapes if _OWN in k and k not in used and f"{_OWN}neck" not in k]
    if others:
        raise ConfigError(
            f"{path}: tensor {others[0]} belongs to no layer of this network: set "
            "model.backbone_width and model.backbone_stages to those of the file"
        )
    _check_finite(path, [name for name in shapes if name not in used], read)
    return assemble(arrays), {"format": "lts_jax", "tensors": len(shapes), "heads": None}


def from_torch(path: Path, shapes: Shapes, read: Read, network: Network) -> Loaded:
    """Extracts the backbone from a PyTorch state dict of a known source.

    Args:
      path: path of the file, for error messages.
      shapes: shapes of its tensors, by name.
      read: reads a tensor by name.
      network: the backbone to extract.

    Returns:
      `params` and `batch_stats`, and a description of the file: `format`, its `origin_project` and
      the `conventions` that its weights may need, number of `tensors`, `skipped` (tensors that are
      not part of the backbone), `heads` (outputs of a detection head, None if it has no heads).

    Raises:
      ConfigError: the source is unknown, or a tensor is missing, unexpected, of another shape, or
        contains an invalid value.
    """
    recognized = recognize(shapes, network)
    if recognized is None:
        raise ConfigError(f"{path}: {describe_unknown(list(shapes))}")
    source, prefix = recognized
    modules = source.modules(network)
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    used: set[str] = set()
    for conv in network.convs:
        if conv.path not in modules:
            raise ConfigError(
                f"{path}: this file of {source.name} does not contain YOLOv3's neck: set "
                "--config.model.neck=False, or convert it with --no_neck"
            )
        module, norm = (prefix + name for name in modules[conv.path])
        names = {"weights": f"{module}.weight"} | {k: f"{norm}.{v}" for k, v in _NORM.items()}
        for key, tensor in names.items():
            wanted = conv.shape if key == "weights" else (conv.outputs,)
            _check_shape(path, tensor, shapes, wanted, conv)
        arrays[conv.path] = {k: _check_values(path, v, read(v), k) for k, v in names.items()}
        used |= {*names.values(), f"{norm}.{_COUNTER}"}
    skipped = [name for name in shapes if name not in used]
    _check_left_over(path, skipped, used, re.compile(re.escape(prefix) + f"({source.body})"))
    _check_finite(path, skipped, read)
    heads = [shapes[k][0] for k in skipped if _is_head(k, shapes)]
    return assemble(arrays), {
        "format": "PyTorch state dict",
        "origin_project": source.name,
        "conventions": list(source.conventions),
        "tensors": len(shapes),
        "skipped": len(skipped),
        "heads": heads[0] if heads else None,
    }


def _check_left_over(path: Path, skipped: list[str], used: set[str], body: re.Pattern[str]) -> None:
    """Raises ConfigError if an unused tensor would affect the backbone."""
    modules = {name.rpartition(".")[0] for name in used}
    for name in skipped:
        if name.rpartition(".")[0] in modules or body.match(name):
            raise ConfigError(
                f"{path}: tensor {name} belongs to no layer of this Darknet53: set "
                "model.backbone_width and model.backbone_stages to those of the file"
            )


def _is_head(name: str, shapes: Shapes) -> bool:
    """Returns whether a tensor is a head's: only heads have convolutions with a bias."""
    bias = f"{name.removesuffix('.weight')}.bias"
    return name.endswith(".weight") and len(shapes[name]) == 4 and bias in shapes


def _check_shape(
    path: Path, name: str, shapes: Shapes, wanted: tuple[int, ...], conv: Conv
) -> None:
    if shapes.get(name) == wanted:
        return
    actual = shapes.get(name, "missing")
    if conv.path.startswith("neck"):
        fix = "Set --config.model.neck=False"
    else:
        fix = "Set model.backbone_width and model.backbone_stages to those of the file"
    raise ConfigError(f"{path}: tensor {name} is {actual}, but {conv.path} needs {wanted}. {fix}")


def _check_values(
    path: Path, name: str, values: NDArray[Any], key: str, *, constants: bool = False
) -> NDArray[np.float32]:
    """Returns the values as float32; raises ConfigError if they cannot be the result of training.

    Args:
      path: path of the file, for error messages.
      name: name of the tensor.
      values: values of the tensor.
      key: "bias", "scale", "mean", "var" or "weights".
      constants: whether to accept arrays of equal non-zero numbers.
    """
    if values.dtype.kind != "f":
        raise ConfigError(f"{path}: tensor {name} has dtype {values.dtype}, not floating point")
    values = values.astype(np.float32)
    bad = ~(np.abs(values) <= LIMIT)
    if key == "var":
        bad |= values < 0
    _refuse(path, name, values, bad)
    if what := untrained(key, values, constants=constants):
        raise ConfigError(f"{path}: tensor {name} {what}")
    return values


def _check_finite(path: Path, names: list[str], read: Read) -> None:
    """Checks tensors outside the backbone too: a damaged file is rejected entirely."""
    for name in names:
        values = read(name)
        if values.dtype.kind in "fc":
            _refuse(path, name, values, ~np.isfinite(values))


def _refuse(path: Path, name: str, values: NDArray[Any], bad: NDArray[np.bool_]) -> None:
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise ConfigError(
            f"{path}: tensor {name} has the invalid value {values[at]} at "
            f"{tuple(map(int, at))}: the file is damaged; download it again"
        )
