"""Damages JSON files in different ways, and runs commands in this process."""

import json
import random

import pytest

from lts_jax.cli import command

JSON = {
    "empty": lambda data: b"",
    "blank": lambda data: b" \n",
    "half": lambda data: data[: len(data) // 2],
    "zeros": lambda data: bytes(len(data)),
    "binary": lambda data: random.Random(0).randbytes(len(data)),
    "UTF-16": lambda data: data.decode().encode("utf-16"),
    "latin-1": lambda data: data.replace(b'"', b'"\xe9', 1),
    "null": lambda data: b"null",
    "number": lambda data: b"17",
    "text": lambda data: b'"run"',
    "NaN": lambda data: b"NaN",
    "list": lambda data: b"[1]",
    "list of mappings": lambda data: b'[{"step": 1}]',
    "mapping": lambda data: b'{"step": 1}',
    "deep list": lambda data: b"[" * 100_000,
    "deep mapping": lambda data: b'{"step":' * 100_000,
    "long number": lambda data: b"9" * 10_000,
    "twice": lambda data: data + data,
    "missing field": lambda data: change_first(data, None),
    "infinite field": lambda data: change_first(data, float("inf")),
    "half a surrogate pair": lambda data: change_first(data, "\ud800"),
    "other type": lambda data: change_first(data, [{"a": [1]}]),
}


def change_first(data, value):
    """Sets or removes the first field of the file's mapping, or of its list's first mapping."""
    content = json.loads(data)
    holder = content
    if isinstance(content, list) and isinstance(content[0], dict):
        holder = content[0]
    key = 0 if isinstance(holder, list) else next(iter(holder))
    if value is None:
        del holder[key]
    else:
        holder[key] = value
    return json.dumps(content).encode()


def error_of(*arguments):
    """Runs a command that fails with status 1; returns its one-line message without `error: `."""
    with pytest.raises(SystemExit) as end:
        command.main([str(x) for x in arguments])
    message = end.value.code
    assert isinstance(message, str) and message.startswith("error: "), message
    assert "\n" not in message, message
    return message.removeprefix("error: ")
