"""Reads a pretrained Darknet53 from a Darknet, PyTorch or safetensors file."""

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from lts_jax.errors import ConfigError
from lts_jax.io.files import whole_file
from lts_jax.models.darknet53 import CONVENTIONS
from lts_jax.pretrained.darknet import read_darknet
from lts_jax.pretrained.layout import Network
from lts_jax.pretrained.state_dict import Loaded, from_own, from_torch, is_own
from lts_jax.pretrained.torch_checkpoint import load_tensors, to_numpy

_STOCK_SHA256 = "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297"
_STOCK_IMAGES_SEEN = 32_013_312
_COCO_OUTPUTS = 255
_LEAK = (
    "trained on COCO's train2014 images, which include all val and test images of RefCOCO and "
    "RefCOCO+ (UNC: 3,000) and of RefCOCOg (UMD: 3,900; Google: 4,650), 10,113 in total: scores "
    "would be too high. Use weights whose training excluded the images that you evaluate on, such "
    "as MCN's and SimREC's; they do not exclude 3,564 images of Google's val"
)
_flatten = functools.partial(flatten_dict, sep="/")


class Backbone(NamedTuple):
    """Weights of a backbone and their source.

    Attributes:
      variables: `params` and `batch_stats` of `lts_jax.models.darknet53.Darknet53`: nested
        dictionaries of float32 arrays, kernels `[k, k, in, out]` or, for k = 1, `[in, out]`, and
        BatchNorm's `scale`, `bias`, `mean` and `var` `[out]`.
      source: `file`, its `sha256`, `bytes` and `format`, the `conventions` that the weights may
        need (keys of `lts_jax.models.darknet53.CONVENTIONS`), and other recorded metadata;
        `warning` if its training may have included images that the model is evaluated on.
    """

    variables: dict[str, Any]
    source: dict[str, Any]


def load_backbone(path: Path, network: Network) -> Backbone:
    """Reads a Darknet file, a PyTorch state dict, or a file written by `save_backbone`.

    Args:
      path: path of the file. A .safetensors file is recognized by its name, a `torch.save` file
        by its first bytes; any other file is read as a Darknet file.
      network: the sizes of the backbone.

    Raises:
      ConfigError: the file is missing, damaged, or not of exactly this network, or it requires
        PyTorch, which is not installed.
    """
    try:
        with path.open("rb") as file:
            start = file.read(16)
            file.seek(0)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        read = _reader(path, start)
        variables, described = read(path, network)
    except OSError as error:
        raise ConfigError(
            f"model.backbone_weights: {path} cannot be read ({error.strerror})"
        ) from error
    source = {
        "file": str(path),
        "sha256": digest,
        "bytes": path.stat().st_size,
        **described,
    }
    if warning := _warning(source):
        source["warning"] = warning
    return Backbone(variables, source)


def inherited_warning(record: Any) -> str | None:
    """Returns the first `warning` in nested records of the weights' source, if any."""
    stack = [record]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if isinstance(warning := item.get("warning"), str):
                return warning
            stack.extend(item.values())
    return None


def save_backbone(path: Path, backbone: Backbone) -> None:
    """Writes a .safetensors file with this project's names and the weights' source."""
    tensors = {
        f"{collection}/backbone/{name}": value
        for collection, tree in backbone.variables.items()
        for name, value in _flatten(tree).items()
    }
    save_tensors(path, tensors, backbone.source["conventions"], {"source": backbone.source})


def save_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], conventions: Sequence[str], metadata: Any
) -> None:
    """Writes a .safetensors file atomically.

    Args:
      path: path of the file.
      tensors: tensors by name.
      conventions: conventions that the backbone's weights may need.
      metadata: JSON values by field, for the file's header.
    """
    fields = {"conventions": list(conventions), **metadata}
    header = {name: json.dumps(value) for name, value in fields.items()}
    # safetensors' `save_file` ignores the umask: only the user could read its files.
    content = save({k: np.ascontiguousarray(v) for k, v in tensors.items()}, header)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def _reader(path: Path, start: bytes) -> Callable[[Path, Network], Loaded]:
    if path.suffix == ".safetensors":
        return _read_safetensors
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        return _read_torch
    if path.suffix in (".pth", ".pt", ".tar"):
        raise ConfigError(
            f"{path}: its first bytes are not those of a torch.save file: download it again"
        )
    return read_darknet


def _read_torch(path: Path, network: Network) -> Loaded:
    tensors = load_tensors(path)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}

    def read(name: str) -> NDArray[Any]:
        return to_numpy(path, name, tensors[name])

    return from_torch(path, shapes, read, network)


def _read_safetensors(path: Path, network: Network) -> Loaded:
    try:
        with safe_open(path, "numpy") as file:
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            header = file.metadata() or {}

            def read(name: str) -> NDArray[Any]:
                try:
                    if file.get_slice(name).get_dtype() == "BF16":
                        return _read_bfloat16(path, name, shapes[name])
                    tensor: NDArray[Any] = file.get_tensor(name)
                    return tensor
                except (SafetensorError, TypeError, ValueError, AttributeError) as error:
                    raise ConfigError(f"{path}: tensor {name}: {error}") from error

            if is_own(shapes):
                variables, described = from_own(path, shapes, read, network)
                described["conventions"] = _parse_conventions(path, header.get("conventions"))
            else:
                variables, described = from_torch(path, shapes, read, network)
    except SafetensorError as error:
        with path.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
        raise ConfigError(
            f"{path}: the header, bytes 0 to {8 + length}, does not describe this file of "
            f"{path.stat().st_size} bytes ({error}): download it again"
        ) from error
    if "source" in header:
        origin = _parse(header["source"])
        if not isinstance(origin, dict):
            raise ConfigError(f"{path}: the header's field `source` is not a JSON object")
        described["origin"] = origin
    return variables, described


def _read_bfloat16(path: Path, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Reads a bfloat16 tensor, which NumPy has no type for, as the upper halves of float32."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begin, end = json.loads(file.read(length))[name]["data_offsets"]
        file.seek(8 + length + begin)
        halves = np.frombuffer(file.read(end - begin), "<u2")
    return (halves.astype(np.uint32) << 16).view(np.float32).reshape(shape)


def _parse_conventions(path: Path, text: str | None) -> list[str]:
    names = _parse(text or "")
    if not isinstance(names, list) or not names or not set(map(str, names)) <= set(CONVENTIONS):
        raise ConfigError(
            f"{path}: the header's field `conventions` must list some of "
            f"{', '.join(CONVENTIONS)}: write the file again with `lts pretrained darknet` or "
            "`lts export`"
        )
    return names


def _parse(text: str) -> Any:
    """Parses JSON text; returns None if it is invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _warning(source: dict[str, Any]) -> str | None:
    if inherited := inherited_warning(source.get("origin")):
        return inherited
    if source["sha256"] == _STOCK_SHA256 or source.get("images_seen") == _STOCK_IMAGES_SEEN:
        return f"{source['file']} is the stock YOLOv3, {_LEAK}."
    if source.get("heads") == _COCO_OUTPUTS:
        return (
            f"{source['file']} has the heads of a detector of COCO's 80 classes. The stock YOLOv3 "
            f"was {_LEAK}. Make sure that this file was not trained on the images that you "
            "evaluate on."
        )
    return None
