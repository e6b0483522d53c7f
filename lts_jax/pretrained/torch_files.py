"""Reads the tensors of a `torch.save` file without torch, and without running what it holds.

Such a file is a pickle beside the tensors' bytes, see `lts_jax.pretrained.torch_pickle`. Both forms
are read: the zip archive (since torch 1.6) and the older stream of pickles.
"""

import io
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lts_jax.errors import ConfigError
from lts_jax.pretrained.torch_pickle import Storage, Tensor, interpret

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ZIP_ERRORS = (zipfile.BadZipFile, ValueError, RuntimeError, OSError, EOFError, struct.error)


class TorchFile:
    """The tensors of a file, by name, in the order in which they were saved.

    Attributes:
      tensors: of the state dict: the file's dictionary itself, or what lies under `state_dict`,
        `model` or `net` in it.
    """

    def __init__(self, path: Path):
        self._path = path
        self._size = path.stat().st_size
        self._legacy: dict[str, tuple[int, int]] = {}  # start and length of each storage, bytes
        self._archive: zipfile.ZipFile | None = None
        self._root = ""
        with path.open("rb") as file:
            zipped = file.read(4) == b"PK\x03\x04"
        value = self._open_zip() if zipped else self._open_legacy()
        self.tensors = _state_dict(path, value)

    def read(self, name: str) -> np.ndarray:
        """Reads a tensor.

        Raises:
          ConfigError: its bytes are missing, damaged, or fewer than it needs.
        """
        tensor = self.tensors[name]
        storage = tensor.storage
        brain = storage.dtype == "bfloat16"
        dtype = np.dtype("<u2" if brain else storage.dtype)
        count = int(np.prod(tensor.size, dtype=object))
        spans = zip(tensor.size, tensor.stride, strict=True)
        last = tensor.offset + sum((n - 1) * step for n, step in spans) if count else 0
        data = self._bytes(name, storage, dtype)
        # A view may name more elements than the storage has: they would all be copied.
        if count > storage.numel or last >= max(1, storage.numel):
            raise ConfigError(
                f"{self._path}: tensor {name} of size {tensor.size} does not fit its storage of "
                f"{storage.numel} numbers"
            )
        flat = np.frombuffer(data, dtype, storage.numel)
        if not count:
            return np.zeros(tensor.size, np.float32 if brain else dtype)
        strides = [step * dtype.itemsize for step in tensor.stride]
        view = np.lib.stride_tricks.as_strided(
            flat[tensor.offset :], tensor.size, strides, writeable=False
        )
        return (view.astype("<u4") << 16).view("<f4") if brain else view

    def _bytes(self, name: str, storage: Storage, dtype: np.dtype) -> bytes:
        wanted = storage.numel * dtype.itemsize
        if self._archive is None:
            if storage.key not in self._legacy:
                raise ConfigError(f"{self._path}: tensor {name}: storage {storage.key} is missing")
            start, length = self._legacy[storage.key]
            if length != wanted:
                raise ConfigError(
                    f"{self._path}: tensor {name} needs {wanted} bytes, byte {start} holds {length}"
                )
            with self._path.open("rb") as file:
                file.seek(start)
                return file.read(length)
        member = f"{self._root}data/{storage.key}"
        data = _read_member(self._path, self._archive, member, f"tensor {name}")
        if len(data) != wanted:
            raise ConfigError(
                f"{self._path}: tensor {name} needs {wanted} bytes, {member} holds {len(data)}"
            )
        return data

    def _open_zip(self) -> Any:
        try:
            self._archive = zipfile.ZipFile(self._path)
            members = self._archive.infolist()
        except _ZIP_ERRORS as error:
            raise ConfigError(
                f"{self._path}: the zip directory at its end, before byte {self._size}, is "
                f"damaged or cut off ({error}): fetch the file again"
            ) from error
        if sum(info.file_size for info in members) > self._size:
            raise ConfigError(
                f"{self._path}: by its zip directory, before byte {self._size}, its members are "
                "larger than the file; torch writes them uncompressed"
            )
        pickles = [i.filename for i in members if i.filename.endswith("data.pkl")]
        if len(pickles) != 1:
            raise ConfigError(f"{self._path}: {len(pickles)} members are called data.pkl, not one")
        self._root = pickles[0].removesuffix("data.pkl")
        names = {info.filename for info in members}
        if f"{self._root}byteorder" in names:
            order = _read_member(
                self._path, self._archive, f"{self._root}byteorder", "the byte order"
            )
            if order != b"little":
                raise ConfigError(f"{self._path}: byteorder is {order[:20]!r}, not b'little'")
        data = _read_member(self._path, self._archive, pickles[0], "the table of tensors")
        return interpret(self._path, io.BytesIO(data), pickles[0])

    def _open_legacy(self) -> Any:
        with self._path.open("rb") as file:
            for what, wanted in (("magic", _LEGACY_MAGIC), ("protocol", _LEGACY_PROTOCOL)):
                if interpret(self._path, file, f"the {what} number") != wanted:
                    raise ConfigError(
                        f"{self._path}: byte 0 begins neither a zip archive nor torch's {what} "
                        "number: no file of torch.save"
                    )
            system = interpret(self._path, file, "the system")
            if not isinstance(system, dict) or system.get("little_endian") is not True:
                raise ConfigError(f"{self._path}: byte {file.tell()}: no little-endian file")
            value = interpret(self._path, file, "the table of tensors")
            keys = interpret(self._path, file, "the table of storages")
            sizes = {s.key: s for s in _storages(value)}
            if not isinstance(keys, list) or not all(key in sizes for key in keys):
                raise ConfigError(
                    f"{self._path}: the table of storages before byte {file.tell()} does not fit "
                    "the tensors"
                )
            at = file.tell()
            for key in keys:
                dtype = sizes[key].dtype
                itemsize = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize
                file.seek(at)
                count = int.from_bytes(file.read(8), "little")
                self._legacy[key] = at + 8, count * itemsize
                at += 8 + count * itemsize
                if at > self._size:
                    raise ConfigError(
                        f"{self._path}: ends at byte {self._size}, storage {key} at byte {at}"
                    )
            if at != self._size:
                raise ConfigError(f"{self._path}: goes on after byte {at}, its last storage")
        return value


def _read_member(path: Path, archive: zipfile.ZipFile, member: str, what: str) -> bytes:
    try:
        info = archive.getinfo(member)
        if info.compress_type != zipfile.ZIP_STORED:
            raise zipfile.BadZipFile("it is compressed, which torch never does")
        return archive.read(info)
    except KeyError:
        raise ConfigError(f"{path}: {what}: {member} is missing from the archive") from None
    except _ZIP_ERRORS as error:
        raise ConfigError(f"{path}: {what}: {member} is damaged ({error})") from error


def _state_dict(path: Path, value: Any) -> dict[str, Tensor]:
    """Finds the dictionary of tensors in what the file holds."""
    for key in ("state_dict", "model", "net"):
        if isinstance(value, dict) and isinstance(value.get(key), dict):
            value = value[key]
    tensors = value.items() if isinstance(value, dict) else ()
    found = {k: v for k, v in tensors if isinstance(v, Tensor) and isinstance(k, str)}
    if not found:
        raise ConfigError(
            f"{path}: holds no state dict; write it with torch.save(model.state_dict(), FILE)"
        )
    return found


def _storages(value: Any) -> Iterator[Storage]:
    stack, seen = [value], set()
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            yield item.storage
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            stack.extend(item.values() if isinstance(item, dict) else item)
