"""Interprets the pickle of a `torch.save` file: plain values and tensors, and nothing else.

A pickle is a program. Of its instructions only those are known here that build containers, text,
numbers and tensors; the first other one ends the reading.
"""

import pickletools
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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


class Storage(NamedTuple):
    """Numbers that lie elsewhere in the file."""

    dtype: str
    key: str
    numel: int


class Tensor(NamedTuple):
    """What the pickle says of a tensor; its numbers are not read yet."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def interpret(path: Path, stream: Any, where: str) -> Any:
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


def _persistent(value: Any) -> Storage:
    """A storage: ("storage", type, key, device, number of elements[, view])."""
    kind, storage, key, _, numel = value[:5]
    if kind != "storage" or not isinstance(storage, _Global):
        raise _RefusedError(f"the persistent object {reprlib.repr(kind)}")
    if not isinstance(key, str) or not key.isalnum() or not isinstance(numel, int) or numel < 0:
        raise ValueError(f"storage {reprlib.repr(key)} of {reprlib.repr(numel)} elements")
    return Storage(_DTYPES[storage.name.rpartition(".")[2]], key, numel)


def _call(function: Any, arguments: Any) -> Any:
    """The calls that a state dict needs."""
    if not isinstance(function, _Global) or not isinstance(arguments, tuple):
        raise _RefusedError(f"a call of {reprlib.repr(function)}")
    match function.name:
        case "collections.OrderedDict" if not arguments:
            return {}
        case "torch._utils._rebuild_tensor_v2" | "torch._utils._rebuild_tensor":
            storage, offset, size, stride = arguments[:4]
            # Before they are copied: what a few bytes name again and again can be large.
            if not isinstance(storage, Storage) or not len(size) == len(stride) <= 8:
                raise ValueError("a tensor without a storage, or of more than 8 dimensions")
            numbers = (offset, *size, *stride)
            if not all(type(n) is int and 0 <= n < 2**62 for n in numbers):
                shown = reprlib.repr((size, stride, offset))
                raise ValueError(f"a tensor of size, stride and offset {shown}")
            return Tensor(storage, offset, tuple(size), tuple(stride))
        case "torch._utils._rebuild_parameter":
            return arguments[0]
        case "torch.Size":
            if not isinstance(arguments[0], list | tuple) or len(arguments[0]) > 8:
                raise ValueError("a torch.Size of more than 8 numbers")
            return tuple(arguments[0])
    raise _RefusedError(f"a call of {function.name}")
