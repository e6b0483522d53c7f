"""The restricted pickle reader: only plain values, and no code is executed."""

import contextlib
import os
import pickle
import struct
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from tfds_refcoco.errors import DataError
from tfds_refcoco.raw.files import RawFile
from tfds_refcoco.raw.pickles import read_pickle

PLAIN = [
    {"ref_id": 1, "big": 1 << 60, "huge": 1 << 200, "text": "naïve", "none": None, "yes": True},
    {"tuple": (1, (2.5, "x")), "list": [[], {}, ()], "float": -1e300},
]


def _read(tmp_path: Path, data: bytes) -> object:
    path = tmp_path / "refs(unc).p"
    path.write_bytes(data)
    return read_pickle(RawFile(path))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_of_every_protocol(tmp_path, protocol):
    assert _read(tmp_path, pickle.dumps(PLAIN, protocol)) == PLAIN


def test_python_2_byte_strings_are_utf8(tmp_path):
    # As written by cPickle of Python 2: SHORT_BINSTRING.
    text = "caf\u00e9".encode()
    data = b"\x80\x02]q\x01U" + bytes([len(text)]) + text + b"q\x02a."
    assert _read(tmp_path, data) == ["caf\u00e9"]
    with pytest.raises(DataError, match="not a complete pickle"):
        _read(tmp_path, b"\x80\x02]q\x01U\x01\xe9q\x02a.")


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class State:
    def __setstate__(self, state):
        raise AssertionError("executed")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_is_refused_and_not_run(tmp_path, protocol):
    mark = tmp_path / "mark"
    data = pickle.dumps([{"ref_id": 1}, Touch(mark)], protocol)
    with pytest.raises(DataError, match="refused"):
        _read(tmp_path, data)
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",  # GLOBAL, REDUCE
        b"(S'true'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'true'\no.",  # OBJ
        b"\x8c\x02os\x8c\x06system\x93.",  # STACK_GLOBAL
        b"cbuiltins\nlist\n)\x81.",  # NEWOBJ
        b"\x80\x02]}b.",  # BUILD
        b"Pname\n.",  # PERSID
        b"\x80\x02K\x01Q.",  # BINPERSID
        b"\x80\x02\x82\x01.",  # EXT1
        b"\x80\x04\x8f.",  # EMPTY_SET
        b"\x80\x05\x97.",  # NEXT_BUFFER
        pickle.dumps(np.float32(1)),
        pickle.dumps(OrderedDict(a=1), 2),
        pickle.dumps({1, 2}, 4),
        pickle.dumps(1j, 2),
    ],
)
def test_only_plain_opcodes_are_allowed(tmp_path, data):
    with pytest.raises(DataError, match="refused at byte") as error:
        _read(tmp_path, data)
    assert "refs(unc).p" in str(error.value)


def test_the_message_names_the_global(tmp_path):
    with pytest.raises(DataError, match="os system"):
        _read(tmp_path, pickle.dumps(os.system, 0).replace(b"posix", b"os"))


def test_every_truncation_raises_data_error(tmp_path):
    data = pickle.dumps(PLAIN, 2)
    for end in range(len(data)):
        with pytest.raises(DataError, match=r"refs\(unc\)\.p"):
            _read(tmp_path, data[:end])


def test_corruption_never_escapes(tmp_path):
    rng = np.random.default_rng(0)
    data = pickle.dumps(PLAIN, 2)
    for _ in range(500):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(DataError):
            _read(tmp_path, bytes(damaged))


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02]r" + struct.pack("<I", 0xFFFFFFFF) + b".",  # memo table of 2**32 entries
        b"]p4000000000\n.",
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b"x.",  # bytes of length 2**62
        b"\x80\x02T" + struct.pack("<i", 2**31 - 1) + b"x.",
        b"\x80\x02\x8b" + struct.pack("<i", -5) + b"x.",
        b"I" + b"9" * 10_000 + b"\n.",  # more digits than int() accepts
        b"\x80\x02K\x01" + b"\x85" * 200_000 + b".",  # deep tuples, which are hashed by recursion
        b"\x80\x02]}\x86s.",
        b"\x80\x02}]K\x01s.",  # an unhashable key
        b"\x80\x02h\x07.",  # missing memo entry
        b"",
        b".",
        b"\x80\x09N.",
    ],
)
def test_hostile_sizes_and_shapes(tmp_path, data):
    with pytest.raises(DataError):
        _read(tmp_path, data)


def test_deep_and_circular_lists_are_harmless(tmp_path):
    assert isinstance(_read(tmp_path, b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b"."), list)
    circular: list[object] = []
    circular.append(circular)
    value = _read(tmp_path, pickle.dumps(circular, 2))
    assert isinstance(value, list) and value[0] is value


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_pickle(RawFile(tmp_path / "absent.p"))
