"""Extracts the backbone from named tensors: a PyTorch state dict, or a file of this project.

Tensor names differ between PyTorch implementations of Darknet53, but the network is the same. So
convolutions are recognized by order and shape, each with the BatchNorm of the same module. Blocks
of one stage have the same shapes, so the numbers in their names must confirm the order. If the file
does not keep an order, the names alone must determine it for all tensors of one shape.
"""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lts_jax.errors import ConfigError
from lts_jax.pretrained.layout import LIMIT, Conv, Network, assemble, darknet53

_NORM = {"bias": "bias", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# Parts whose names do not sort in the order of the network.
_RANKS = {"stem": -2, "down": -1, "neck": 1, "head": 2, "bbox_head": 2}
_OWN = "/backbone/"

Shapes = dict[str, tuple[int, ...]]
Read = Callable[[str], NDArray[Any]]
Loaded = tuple[dict[str, Any], dict[str, Any]]


def is_own(shapes: Shapes) -> bool:
    """Whether the tensors have the names that this project writes."""
    return any(name.startswith("params/") for name in shapes)


def from_own(path: Path, shapes: Shapes, read: Read, network: Network) -> Loaded:
    """Like `from_torch`, from a file that this project has written."""
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
            values = _check_values(path, name, read(name), key)
            if key == "weights":
                values = values.reshape(wide).transpose(3, 2, 0, 1)
            arrays[conv.path][key] = values
            used.add(name)
    others = [k for k in shapes if _OWN in k and k not in used and f"{_OWN}neck" not in k]
    if others:
        raise ConfigError(f"{path}: tensor {others[0]} belongs to no layer of this network")
    _check_finite(path, [name for name in shapes if name not in used], read)
    return assemble(arrays), {"format": "lts_jax", "tensors": len(shapes), "heads": None}


def from_torch(
    path: Path, shapes: Shapes, read: Read, network: Network, *, ordered: bool
) -> Loaded:
    """Extracts the backbone from a PyTorch state dict.

    Args:
      path: of the file, for error messages.
      shapes: of its tensors, by name.
      read: reads a tensor by name.
      network: which backbone to extract.
      ordered: whether `shapes` are in the order of the network; if not, the names are sorted.

    Returns:
      `params` and `batch_stats`, and a description of the file: `format`, number of `tensors`,
      `skipped` (tensors that are not part of the backbone), `heads` (outputs of a detection head,
      None if it has no heads).

    Raises:
      ConfigError: a tensor is missing, ambiguous, of another shape, or holds an impossible number.
    """
    chosen = _choose(path, shapes, network, ordered)
    _check_numbering(path, network, chosen)
    norms = _norms(shapes, ordered)
    if not ordered:
        _check_names(path, network, chosen, norms)
    arrays: dict[str, dict[str, NDArray[Any]]] = {}
    used: set[str] = set()
    for conv, name in zip(network.convs, chosen, strict=True):
        norm = norms.get(name)
        if norm is None:
            raise ConfigError(f"{path}: tensor {name}.weight has no BatchNorm in the same module")
        names = {k: f"{norm}.{v}" for k, v in _NORM.items()} | {"weights": f"{name}.weight"}
        for key, tensor in names.items():
            wanted = conv.shape if key == "weights" else (conv.outputs,)
            _check_shape(path, tensor, shapes, wanted, conv)
        arrays[conv.path] = {k: _check_values(path, v, read(v), k) for k, v in names.items()}
        used |= {*names.values(), f"{norm}.num_batches_tracked"}
    skipped = [name for name in shapes if name not in used]
    _check_finite(path, skipped, read)
    heads = [shapes[k][0] for k in skipped if _is_head(k, shapes)]
    return assemble(arrays), {
        "format": "PyTorch state dict",
        "tensors": len(shapes),
        "skipped": len(skipped),
        "heads": heads[0] if heads else None,
    }


def _choose(path: Path, shapes: Shapes, network: Network, ordered: bool) -> list[str]:
    """Finds the convolutions of the network among the modules, in its order."""
    modules = [
        name.removesuffix(".weight")
        for name, shape in shapes.items()
        if name.endswith(".weight") and len(shape) == 4 and not _is_head(name, shapes)
    ]
    if not ordered:
        modules.sort(key=_key)
    convs = network.convs
    first = convs[0].shape
    starts = [i for i, name in enumerate(modules) if shapes[f"{name}.weight"] == first]
    if len(starts) != 1:
        raise ConfigError(
            f"{path}: {len(starts)} tensors are {first}, the shape of Darknet53's first "
            f"convolution, not one. The tensors are {', '.join(list(shapes)[:3])}, …"
        )
    rest = list(range(starts[0], len(modules)))
    body = len(darknet53(network.width, network.stages))
    chosen: list[str] = []
    for i, conv in enumerate(convs):
        fitting = [k for k in rest if shapes[f"{modules[k]}.weight"] == conv.shape]
        # The body's convolutions follow each other; only a block's two may be listed in reverse.
        near = i < body and fitting[:1] and fitting[0] - rest[0] > 1
        if not fitting or near:
            there = "no tensor is left"
            if rest:
                name = f"{modules[rest[0]]}.weight"
                there = f"tensor {name} is {shapes[name]}"
            raise ConfigError(
                f"{path}: {there} where convolution {i + 1}, {conv.path}, is {conv.shape}. Is this "
                "Darknet53, and are model.neck, model.backbone_width and model.backbone_stages "
                "those of the file?"
            )
        chosen.append(modules[fitting[0]])
        rest.remove(fitting[0])
    return chosen


def _norms(shapes: Shapes, ordered: bool) -> dict[str, str]:
    """The BatchNorm of each convolution: the one in the same place within the same module."""
    convs: dict[str, list[str]] = {}
    norms: dict[str, list[str]] = {}
    for name in shapes if ordered else sorted(shapes, key=_key):
        module, _, leaf = name.rpartition(".")
        parent = module.rpartition(".")[0]
        if leaf == "running_mean":
            norms.setdefault(parent, []).append(module)
        elif leaf == "weight" and len(shapes[name]) == 4 and not _is_head(name, shapes):
            convs.setdefault(parent, []).append(module)
    pairs: dict[str, str] = {}
    for parent, of_parent in convs.items():
        if len(norms.get(parent, [])) == len(of_parent):
            pairs |= zip(of_parent, norms[parent], strict=True)
    return pairs


def _check_numbering(path: Path, network: Network, chosen: list[str]) -> None:
    """Raises ConfigError unless the blocks of a stage are numbered evenly, in their order."""
    by_path = dict(zip((conv.path for conv in network.convs), chosen, strict=True))
    for i, blocks in enumerate(network.stages, start=1):
        for k in (0, 1):
            names = [by_path[f"stage{i}_block{j}/ConvNormAct_{k}"] for j in range(blocks)]
            steps = set()
            for a, b in itertools.pairwise(names):
                numbers = [[int(n) for n in re.findall(r"\d+", name)] for name in (a, b)]
                same_text = re.sub(r"\d+", "#", a) == re.sub(r"\d+", "#", b)
                step = [y - x for x, y in zip(*numbers, strict=same_text)] if same_text else []
                first = next((n for n in step if n), 0)
                if first <= 0:
                    raise ConfigError(
                        f"{path}: is tensor {a}.weight the one before {b}.weight? Their names do "
                        "not decide it, and their shapes are the same"
                    )
                steps.add(tuple(step))
            if len(steps) > 1:
                raise ConfigError(
                    f"{path}: the blocks of stage {i}, from tensor {names[0]}.weight to "
                    f"{names[-1]}.weight, are not numbered evenly: is one missing?"
                )


def _check_names(path: Path, network: Network, chosen: list[str], norms: dict[str, str]) -> None:
    """Raises ConfigError unless the names determine the order of all tensors of one shape."""
    same_shape: dict[Any, list[str]] = {}
    for conv, name in zip(network.convs, chosen, strict=True):
        same_shape.setdefault(conv.shape, []).append(name)
        if norm := norms.get(name):
            same_shape.setdefault((conv.outputs, norm.rpartition(".")[0]), []).append(norm)
    partners = {b: a for a, b in itertools.pairwise(chosen)}
    for names in same_shape.values():
        for a, b in itertools.pairwise(names):
            if not _decided(a, b, partners.get(b, "")):
                raise ConfigError(
                    f"{path}: does tensor {a}.weight come before {b}.weight? Their shapes are the "
                    "same, their names have no numbers that decide it, and a .safetensors file "
                    "keeps no order. Save it as .pth with torch.save, which does"
                )


def _decided(a: str, b: str, partner: str) -> bool:
    """Whether a number or a known part sorts `a` before `b`.

    Or `a` leads to the module that holds `b` and its `partner`, a block's other convolution.
    """
    parts = itertools.zip_longest(_key(a), _key(b), fillvalue=())
    at, (x, y) = next((i, pair) for i, pair in enumerate(parts) if pair[0] != pair[1])
    if x and y and x[0] == y[0]:
        first = next(p for p in itertools.zip_longest(x[1:], y[1:]) if p[0] != p[1])
        if all(piece and piece[0] == 0 for piece in first):
            return True
        return _key(partner)[: at + 1] == _key(b)[: at + 1]
    return bool(x and y)


def _key(name: str) -> tuple[Any, ...]:
    """Sorts names by their parts, and numbers in them as numbers."""

    def of_part(part: str) -> tuple[Any, ...]:
        pieces = re.split(r"(\d+)", part)
        values = ((0, int(x), "") if x.isdecimal() else (1, 0, x) for x in pieces if x)
        return _RANKS.get(part, 0), *values

    return tuple(of_part(part) for part in name.split("."))


def _is_head(name: str, shapes: Shapes) -> bool:
    """Whether it is the weight of a convolution with a bias; those of Darknet53 have none."""
    bias = f"{name.removesuffix('.weight')}.bias"
    return name.endswith(".weight") and len(shapes[name]) == 4 and bias in shapes


def _check_shape(
    path: Path, name: str, shapes: Shapes, wanted: tuple[int, ...], conv: Conv
) -> None:
    if shapes.get(name) == wanted:
        return
    actual = shapes.get(name, "missing")
    fix = " Without it: --config.model.neck=False" if conv.path.startswith("neck") else ""
    raise ConfigError(f"{path}: tensor {name} is {actual}, and {conv.path} needs {wanted}.{fix}")


def _check_values(path: Path, name: str, values: NDArray[Any], key: str) -> NDArray[np.float32]:
    """Returns float32; raises ConfigError if a number is impossible."""
    if values.dtype.kind != "f":
        raise ConfigError(f"{path}: tensor {name} holds {values.dtype}, not floating point")
    values = values.astype(np.float32)
    bad = ~(np.abs(values) <= LIMIT)
    if key == "var":
        bad |= values < 0
    _refuse(path, name, values, bad)
    return values


def _check_finite(path: Path, names: list[str], read: Read) -> None:
    """Checks the tensors outside of the backbone too: a damaged file is refused altogether."""
    for name in names:
        values = read(name)
        if values.dtype.kind in "fc":
            _refuse(path, name, values, ~np.isfinite(values))


def _refuse(path: Path, name: str, values: NDArray[Any], bad: NDArray[np.bool_]) -> None:
    if bad.any():
        at = np.unravel_index(int(np.argmax(bad)), bad.shape)
        raise ConfigError(
            f"{path}: tensor {name} holds {values[at]} at {tuple(map(int, at))}, which is "
            "impossible: the file is damaged"
        )
