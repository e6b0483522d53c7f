"""Reads the `refs(*).p` pickles of RefCOCO without executing code from them.

The files were written by Python 2 and contain only lists, dictionaries, text and numbers. A pickle
is a program, so the complete file is scanned before loading: every opcode must be one that builds
such plain values.
"""

import io
import pickle
import pickletools
from typing import NoReturn

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.files import MAX_ANNOTATIONS, RawFile

# Framing, memo and stack; numbers and constants; text and bytes; containers.
_PLAIN_OPCODES = """
PROTO FRAME STOP MARK POP POP_MARK DUP MEMOIZE PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET
NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8
UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
EMPTY_LIST LIST APPEND APPENDS EMPTY_DICT DICT SETITEM SETITEMS
EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3
"""
_OPCODES = frozenset(_PLAIN_OPCODES.split())
_TUPLES = frozenset(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"))
# Python hashes a nested tuple (as a dictionary key) by unchecked C recursion, which overflows the
# stack at tens of thousands of levels. The original files contain no tuples.
_MAX_TUPLES = 10_000


def read_pickle(file: RawFile) -> object:
    """Returns the plain value stored in a pickle.

    Plain values are list, dict, tuple, str, bytes, int, float, bool and None. Byte strings of
    Python 2 are decoded as UTF-8.

    Raises:
      DataError: the file is missing, is not a complete pickle, or contains other values; none of
        its code has been executed.
    """
    return loads(file.read(MAX_ANNOTATIONS), str(file))


def loads(data: bytes, path: str) -> object:
    """Returns the plain value stored in the pickle `data`; see `read_pickle`.

    Args:
      data: the pickle.
      path: its path for error messages.
    """
    _scan(data, path)
    stream = io.BytesIO(data)
    try:
        value: object = _PlainUnpickler(stream, path).load()
    except DataError:
        raise
    except Exception as error:  # a corrupt pickle can raise almost any type
        raise _corrupt(path, f"byte {stream.tell()}", error) from error
    return value


def _scan(data: bytes, path: str) -> None:
    """Raises DataError unless `data` is one complete pickle of plain opcodes."""
    position, tuples = 0, 0
    try:
        for opcode, argument, offset in pickletools.genops(data):
            position = offset or 0
            name = opcode.name
            if name not in _OPCODES:
                what = f"{name} {argument}" if isinstance(argument, str) else name
                raise DataError(
                    f"{path}: refused at byte {position}: the pickle contains {what!r}, but only "
                    "lists, dictionaries, text and numbers are allowed; download the original file "
                    "again."
                )
            # The loader allocates a table with the length of the largest memo number.
            if name in ("PUT", "LONG_BINPUT"):
                number = int(argument or 0)
                if not 0 <= number <= len(data):
                    raise DataError(
                        f"{path}: refused at byte {position}: invalid memo number {number}."
                    )
            tuples += name in _TUPLES
            if tuples > _MAX_TUPLES:
                raise DataError(f"{path}: refused: more than {_MAX_TUPLES} tuples.")
    except DataError:
        raise
    except Exception as error:  # genops raises ValueError, struct.error, OverflowError, ...
        raise _corrupt(path, f"the opcode after byte {position}", error) from error


class _PlainUnpickler(pickle.Unpickler):
    """Defence in depth after `_scan`: refuses all imports and persistent ids."""

    def __init__(self, stream: io.BytesIO, path: str) -> None:
        super().__init__(stream, encoding="utf-8", errors="strict")
        self._path = path

    def find_class(self, module: str, name: str) -> NoReturn:
        raise DataError(f"{self._path}: refused: the pickle imports {module}.{name}.")

    def persistent_load(self, pid: object) -> NoReturn:
        raise DataError(f"{self._path}: refused: the pickle has the persistent id {pid!r}.")


def _corrupt(path: str, where: str, error: Exception) -> DataError:
    reason = str(error) or type(error).__name__
    return DataError(
        f"{path}: not a complete pickle: reading failed at {where} ({reason}); download it again."
    )
