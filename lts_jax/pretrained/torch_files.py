"""Reads the tensors of a `torch.save` file without torch, and without running what it holds.

Such a file is a pickle, which is a program, beside the tensors' bytes. The pickle is interpreted
here: of its instructions only those are known that build containers, text, numbers and tensors;
the first other one ends the reading. Both forms are read: the zip archive (since torch 1.6) and
the older stream of pickles.
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lts_jax.errors import ConfigError

_DTYPES = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "?",
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ZIP_ERRORS = (zipfile.BadZipFile, ValueError, RuntimeError, OSError, EOFError, struct.error)
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_NUMBERS = ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT")
_TEXTS = ("BINUNICODE", "SHORT_BINUNICODE", "BINSTRING", "SHORT_BINSTRING")
_EMPTY: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": object,
}
_CALLS = (
    "collections.OrderedDict",
    "torch.Size",
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_tensor",
    "torch._utils._rebuild_tensor_v2",
)
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Global(NamedTuple):
    name: str


class _Storage(NamedTuple):
    dtype: str
    key: str
    numel: int


class Tensor(NamedTuple):
    """What the pickle says of a tensor; its numbers are not read yet."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


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

    def _bytes(self, name: str, storage: _Storage, dtype: np.dtype) -> bytes:
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
        return _interpret(self._path, io.BytesIO(data), pickles[0])

    def _open_legacy(self) -> Any:
        with self._path.open("rb") as file:
            for what, wanted in (("magic", _LEGACY_MAGIC), ("protocol", _LEGACY_PROTOCOL)):
                if _interpret(self._path, file, f"the {what} number") != wanted:
                    raise ConfigError(
                        f"{self._path}: byte 0 begins neither a zip archive nor torch's {what} "
                        "number: no file of torch.save"
                    )
            system = _interpret(self._path, file, "the system")
            if not isinstance(system, dict) or system.get("little_endian") is not True:
                raise ConfigError(f"{self._path}: byte {file.tell()}: no little-endian file")
            value = _interpret(self._path, file, "the table of tensors")
            keys = _interpret(self._path, file, "the table of storages")
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


def _storages(value: Any) -> Iterator[_Storage]:
    stack, seen = [value], set()
    while stack:
        item = stack.pop()
        if isinstance(item, Tensor):
            yield item.storage
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            stack.extend(item.values() if isinstance(item, dict) else item)


def _interpret(path: Path, stream: Any, where: str) -> Any:
    """Interprets one pickle, and leaves the stream behind it."""
    at = 0
    try:
        machine = _Machine()
        for opcode, argument, offset in pickletools.genops(stream):
            at = offset or 0
            machine.step(opcode.name, argument)
        return machine.stack[-1]
    except _RefusedError as refused:
        raise ConfigError(
            f"{path}: byte {at} of {where} asks for {refused}: refused, nothing was run. "
            "Write the file with torch.save(model.state_dict(), FILE)"
        ) from None
    except Exception as error:  # a damaged pickle can raise nearly anything
        raise ConfigError(
            f"{path}: {where} is damaged at byte {at} ({type(error).__name__}: {error})"
        ) from error


class _RefusedError(Exception):
    """The pickle asks for something that is no plain value and no tensor."""


class _Machine:
    """The pickle machine, for plain values and tensors."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._marks: list[int] = []

    def step(self, name: str, argument: Any) -> None:
        """Executes one instruction."""
        stack, push = self.stack, self.stack.append
        if name in ("PROTO", "FRAME", "STOP"):
            return
        if name in _CONSTANTS:
            push(_CONSTANTS[name])
        elif name in _NUMBERS or name in _TEXTS:
            push(argument)
        elif name == "MARK":
            self._marks.append(len(stack))
        elif name in _EMPTY:
            push(_EMPTY[name]())
        elif name in _TUPLES:
            push(tuple(self._pop(_TUPLES[name])))
        elif name == "TUPLE":
            push(tuple(self._pop_mark()))
        elif name in ("APPEND", "APPENDS"):
            values = self._pop(1) if name == "APPEND" else self._pop_mark()
            _expect(stack[-1], list).extend(values)
        elif name in ("SETITEM", "SETITEMS"):
            values = self._pop(2) if name == "SETITEM" else self._pop_mark()
            for key, value in zip(values[::2], values[1::2], strict=True):
                if not isinstance(key, str | int):
                    raise _RefusedError(f"a {type(key).__name__} as a key")
                _expect(stack[-1], dict)[key] = value
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            push(self._memo[argument])
        elif name == "GLOBAL":
            push(_global(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            push(_global(".".join(self._pop(2))))
        elif name == "BINPERSID":
            push(_persistent(stack.pop()))
        elif name == "REDUCE":
            function, arguments = self._pop(2)
            push(_call(function, arguments))
        elif name == "BUILD":  # a state dict's _metadata, which says nothing of its tensors
            state = stack.pop()
            if not isinstance(stack[-1], dict) or not isinstance(state, dict):
                raise _RefusedError(f"a change of a {type(stack[-1]).__name__}")
        else:
            raise _RefusedError(name)

    def _pop(self, n: int) -> list[Any]:
        if len(self.stack) - (self._marks[-1] if self._marks else 0) < n:
            raise ValueError("the stack is empty")
        values = self.stack[-n:]
        del self.stack[-n:]
        return values

    def _pop_mark(self) -> list[Any]:
        start = self._marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values


def _global(name: str) -> _Global:
    module, _, leaf = name.rpartition(".")
    if name in _CALLS or (module in ("torch", "torch.storage") and leaf in _DTYPES):
        return _Global(name)
    raise _RefusedError(name)


def _expect(value: Any, kind: type) -> Any:
    if not isinstance(value, kind) or isinstance(value, tuple):
        raise _RefusedError(f"a change of a {type(value).__name__}")
    return value


def _persistent(value: Any) -> _Storage:
    """A storage: ("storage", type, key, device, number of elements[, view])."""
    kind, storage, key, _, numel = value[:5]
    if kind != "storage" or not isinstance(storage, _Global):
        raise _RefusedError(f"the persistent object {kind!r}")
    if not isinstance(key, str) or not key.isalnum() or not isinstance(numel, int) or numel < 0:
        raise ValueError(f"storage {key!r} of {numel!r} elements")
    return _Storage(_DTYPES[storage.name.rpartition(".")[2]], key, numel)


def _call(function: Any, arguments: Any) -> Any:
    """The calls that a state dict needs."""
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise _RefusedError(f"a call of {function!r}")
    match function.name:
        case "collections.OrderedDict" if not arguments:
            return {}
        case "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor":
            storage, offset, size, stride = arguments[:4]
            numbers = (offset, *size, *stride)
            if not isinstance(storage, _Storage) or len(size) != len(stride):
                raise ValueError("a tensor without a storage or strides")
            if len(size) > 8 or not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
                raise ValueError(f"a tensor of size {size!r}, stride {stride!r}, at {offset!r}")
            return Tensor(storage, offset, tuple(size), tuple(stride))
        case "torch._utils._rebuild_parameter":
            return arguments[0]
        case "torch.Size":
            return tuple(arguments[0])
    raise _RefusedError(f"a call of {function.name}")
