"""Reads the tensors of a `torch.save` file with PyTorch, without running code from the file.

PyTorch is optional and imported only here. Files are loaded with `weights_only=True`. A checkpoint
may contain objects other than tensors, such as training arguments. Objects of known packages are
replaced by `_Ignored`, which stores nothing and does nothing.
"""

import pickle
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from lts_jax.errors import ConfigError

if TYPE_CHECKING:
    import torch

# Older versions can run code even with `weights_only=True`: CVE-2025-32434 and CVE-2026-24747.
_OLDEST_TORCH = (2, 10)
_INSTALL = "pip install 'lts_jax[torch]' or pip install 'torch>={}.{}'".format(*_OLDEST_TORCH)
_SAVE_TENSORS = (
    "save only its tensors: torch.save(model.state_dict(), FILE). For a checkpoint with other "
    'objects, use torch.save({"state_dict": torch.load(FILE, weights_only=False)'
    '["state_dict"]}, NEW). WARNING: weights_only=False runs code from the file, so use it only '
    "for files from a source that you trust"
)


# Packages whose objects occur in checkpoints: argparse in timm's, mmengine in mmdetection's (whose
# pickles call getattr), and NumPy scalars in all of them.
_IGNORED_PACKAGES = (
    "argparse",
    "builtins.getattr",
    "datetime",
    "easydict",
    "mmcv",
    "mmengine",
    "numpy",
    "omegaconf",
    "pathlib",
    "types.SimpleNamespace",
    "yacs",
)
_MOST_IGNORED = 100  # maximum number of ignored classes and functions
_REFUSED = re.compile(r"Unsupported global: GLOBAL (\S+) was not an allowed global")


class _Ignored:
    """Replaces an object, class or function that is not needed."""

    def __new__(cls, *_: Any, **__: Any) -> "_Ignored":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def load_tensors(path: Path) -> "dict[str, torch.Tensor]":
    """Loads the tensors of a state dict, by name and in their saved order.

    The state dict is either the file's own dictionary or the value of `state_dict`, `model` or
    `net` in it. The tensors of a zip file are memory-mapped; the format used before PyTorch 1.6
    is read into memory.

    Raises:
      ConfigError: PyTorch is not installed or too old, or the file is damaged, has no state dict,
        or contains objects other than tensors, plain values and those of `_IGNORED_PACKAGES`.
    """
    torch = _import_torch(path)
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        _check_archive(path)
    try:
        value = _load(path, torch, zipped)
    except pickle.UnpicklingError as error:
        # PyTorch's message also advises to disable `weights_only` or to allow the object.
        reason = str(error.__context__ or error).partition(" Please use")[0].strip(" .")
        raise ConfigError(
            f"{path}: torch.load(weights_only=True) rejects this file: {reason}. No code from it "
            f"was run. If it is not damaged, {_SAVE_TENSORS}"
        ) from error
    except Exception as error:  # a damaged file can raise nearly anything
        raise ConfigError(
            f"{path} is damaged ({type(error).__name__}: {error}): download it again"
        ) from error
    return _find_state_dict(path, value, torch)


def _load(path: Path, torch: Any, zipped: bool) -> Any:
    """Loads a file, replacing objects of `_IGNORED_PACKAGES` with `_Ignored`."""
    ignored: list[str] = []
    while True:
        try:
            with torch.serialization.safe_globals([(_Ignored, name) for name in ignored]):
                return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
        except pickle.UnpicklingError as error:
            match = _REFUSED.search(str(error))
            name = match[1] if match else ""
            name = name if "." in name else f"builtins.{name}"  # PyTorch omits "builtins."
            known = any(name == p or name.startswith(f"{p}.") for p in _IGNORED_PACKAGES)
            if not known or name in ignored or len(ignored) == _MOST_IGNORED:
                raise
            ignored.append(name)


def to_numpy(path: Path, name: str, tensor: "torch.Tensor") -> NDArray[Any]:
    """Converts a tensor of the file; bfloat16 and other narrow floats become float32.

    Raises:
      ConfigError: the tensor is larger than the file, or has no NumPy equivalent.
    """
    # An expanded view can have any size, which a copy would allocate.
    if tensor.numel() * tensor.element_size() > path.stat().st_size:
        raise ConfigError(
            f"{path}: tensor {name} of shape {tuple(tensor.shape)} is larger than the file: "
            "the file is damaged; download it again"
        )
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    try:
        return tensor.numpy(force=True)
    except (TypeError, RuntimeError) as error:  # such as a sparse or quantized tensor
        raise ConfigError(
            f"{path}: tensor {name} ({tensor.dtype}, {tensor.layout}) has no NumPy equivalent: "
            "save it as a dense float tensor"
        ) from error


def _import_torch(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            f"{path}: reading a PyTorch checkpoint requires PyTorch: {_INSTALL}. Convert a "
            f"Darknet53 once with `lts pretrained darknet {path} --out backbone.safetensors`; "
            ".safetensors and .weights files are read without PyTorch"
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < _OLDEST_TORCH:
        raise ConfigError(
            f"{path}: PyTorch {torch.__version__} cannot read checkpoints safely: {_INSTALL}"
        )
    return torch


def _check_archive(path: Path) -> None:
    """Checks that members match their checksums and are not compressed; PyTorch does not."""
    try:
        with zipfile.ZipFile(path) as archive:
            packed = [m.filename for m in archive.infolist() if m.compress_type]
            damaged = None if packed else archive.testzip()
    except Exception as error:  # a damaged file can raise nearly anything
        raise ConfigError(f"{path} is damaged ({error}): download it again") from error
    if packed:
        raise ConfigError(
            f"{path}: {packed[0]} is compressed, which torch.save never does. If this is a "
            "TorchScript file, use torch.save(torch.jit.load(FILE).state_dict(), NEW)"
        )
    if damaged:
        raise ConfigError(f"{path} is damaged (wrong checksum of {damaged}): download it again")


def _find_state_dict(path: Path, value: Any, torch: Any) -> "dict[str, torch.Tensor]":
    for key in ("state_dict", "model", "net"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    items = value.items() if isinstance(value, dict) else ()
    tensors = {k: v for k, v in items if isinstance(k, str) and isinstance(v, torch.Tensor)}
    if not tensors:
        raise ConfigError(
            f"{path} contains no state dict; save it with torch.save(model.state_dict(), FILE)"
        )
    return tensors
