"""A pretrained Darknet53 from whatever file it comes in."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from lts_jax.errors import ConfigError
from lts_jax.pretrained.darknet import read_darknet
from lts_jax.pretrained.layout import Network
from lts_jax.pretrained.state_dict import Loaded, from_own, from_torch, is_own
from lts_jax.pretrained.torch_files import TorchFile
from lts_jax.writers import whole_file

_STOCK_SHA256 = "523e4e69e1d015393a1b0a441cef1d9c7659e3eb2d7e15f793f060a21b32f297"
_STOCK_IMAGES_SEEN = 32_013_312
_COCO_OUTPUTS = 255
_LEAK = (
    "trained on COCO's train2014 images, and all of RefCOCO's, RefCOCO+'s and RefCOCOg's val and "
    "test images (10,113) are among those: scores would be too high. Take weights whose training "
    "left these images out, as the paper did"
)


class Backbone(NamedTuple):
    """Weights of the backbone.

    Attributes:
      variables: `params` and `batch_stats` of `lts_jax.models.darknet53.Darknet53`, float32.
      source: `file`, its `sha256` and `bytes`, its `format`, and what else it says of itself;
        `warning` where its training may have seen the images that it will be evaluated on.
    """

    variables: dict[str, Any]
    source: dict[str, Any]


def load_backbone(path: Path, network: Network) -> Backbone:
    """Reads a Darknet file, a PyTorch state dict (.pth, .safetensors) or one of our own.

    Raises:
      ConfigError: there is no such file, or it does not hold exactly this network.
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
    """Finds the warning in what tells where weights are from, however deep it lies."""
    stack = [record]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if isinstance(warning := item.get("warning"), str):
                return warning
            stack.extend(item.values())
    return None


def save_backbone(path: Path, backbone: Backbone) -> None:
    """Writes a .safetensors file of our own names, that tells where the weights are from."""
    tensors = {
        f"{collection}/backbone/{name}": value
        for collection, tree in backbone.variables.items()
        for name, value in flatten_dict(tree, sep="/").items()
    }
    save_tensors(path, tensors, {"source": json.dumps(backbone.source)})


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str]) -> None:
    """Writes a whole .safetensors file or none."""
    with whole_file(path, shared=True) as temporary:
        save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, temporary, metadata)


def _reader(path: Path, start: bytes) -> Any:
    if path.suffix == ".safetensors":
        return _read_safetensors
    if start[:4] == b"PK\x03\x04" or start[:1] == b"\x80":
        return _read_torch
    if path.suffix in (".pth", ".pt", ".tar"):
        raise ConfigError(f"{path}: byte 0 begins no file of torch.save")
    return read_darknet


def _read_torch(path: Path, network: Network) -> Loaded:
    file = TorchFile(path)
    shapes = {name: tensor.size for name, tensor in file.tensors.items()}
    return from_torch(path, shapes, file.read, network, ordered=True)


def _read_safetensors(path: Path, network: Network) -> Loaded:
    try:
        with safe_open(path, "numpy") as file:
            names = file.keys()
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            origin = (file.metadata() or {}).get("source")

            def read(name: str) -> np.ndarray:
                try:
                    return file.get_tensor(name)
                except (SafetensorError, TypeError, ValueError, AttributeError) as error:
                    raise ConfigError(f"{path}: tensor {name}: {error}") from error

            if is_own(shapes):
                variables, described = from_own(path, shapes, read, network)
            else:
                variables, described = from_torch(path, shapes, read, network, ordered=False)
    except SafetensorError as error:
        with path.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
        raise ConfigError(
            f"{path}: the header, bytes 0 to {8 + length}, does not describe this file of "
            f"{path.stat().st_size} bytes ({error}): fetch it again"
        ) from error
    if origin:
        described["origin"] = _parse_origin(path, origin)
    return variables, described


def _parse_origin(path: Path, text: str) -> dict[str, Any]:
    try:
        origin = json.loads(text)
    except (ValueError, RecursionError):
        origin = None
    if not isinstance(origin, dict):
        raise ConfigError(f"{path}: the header's field `source` is no JSON object")
    return origin


def _warning(source: dict[str, Any]) -> str | None:
    if inherited := inherited_warning(source.get("origin")):
        return inherited
    if source["sha256"] == _STOCK_SHA256 or source.get("images_seen") == _STOCK_IMAGES_SEEN:
        return f"{source['file']} is the stock YOLOv3, {_LEAK}."
    if source.get("heads") == _COCO_OUTPUTS:
        return (
            f"{source['file']} has the heads of a detector of COCO's 80 classes. The stock YOLOv3 "
            f"was {_LEAK}; make sure that this file is of such a training."
        )
    return None
