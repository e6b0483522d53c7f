import pytest

from lts_jax.errors import ConfigError
from lts_jax.io import json_files
from lts_jax.io.json_files import (
    boolean,
    list_of,
    mapping_of,
    natural,
    number,
    optional,
    parse_json,
    record,
    share,
    text,
    whole,
)

SHAPE = record(
    {"name": text, "size": list_of(natural, 2), "score": optional(share)},
    {"by_name": mapping_of(number), "shown": boolean, "change": whole},
)
GOOD = b'{"name": "\\u00e9", "size": [3, 4], "score": null, "by_name": {"a": 1e9}, "more": []}'


def test_a_good_file():
    assert parse_json(b"\xef\xbb\xbf" + GOOD, SHAPE, "f", "") == parse_json(GOOD, SHAPE, "f", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"name"', b'"nam"', "f: name: missing; fix it"),
        (b'"\\u00e9"', b"[]", r"f: name: \[\], expected a string; fix it"),
        (b"\\u00e9", b"\\udc80", "f: name: .*, expected a string without unpaired surrogates"),
        (b"\\u00e9", b"\xe9", "f: not a complete JSON file .*utf-8"),
        (b"[3, 4]", b"[3]", r"f: size: \[3\], expected 2 values"),
        (b"[3, 4]", b"[3, true]", r"f: size\[1\]: True, expected a non-negative integer"),
        (b"[3, 4]", b"[3, -1]", r"f: size\[1\]: -1, expected"),
        (b"[3, 4]", b"[3, 4.0]", r"f: size\[1\]: 4\.0, expected"),
        (b"[3, 4]", b"[3, 9223372036854775808]", r"f: size\[1\]: 9223372036854775808, expected"),
        (b"null", b"1.5", r"f: score: 1\.5, expected a number from 0 to 1"),
        (b"null", b"NaN", "f: score: nan, expected"),
        (b"1e9", b"1e999", r"f: by_name\.a: inf, expected a finite number"),
        (b"1e9", b"1" + b"0" * 400, r"f: by_name\.a: 1000.*, expected a finite number"),
        (b'"more"', b'"shown"', r"f: shown: \[\], expected true or false"),
        (b'"more": []', b'"change": 0.5', r"f: change: 0\.5, expected an integer"),
        (b"[3, 4]", b"[" * 10**5, "f: nested too deeply; fix it"),
    ],
)
def test_an_error_names_the_field(old, new, message):
    assert GOOD.count(old) == 1
    with pytest.raises(ConfigError, match=message):
        parse_json(GOOD.replace(old, new), SHAPE, "f", "fix it")


def test_the_entry_of_a_list():
    with pytest.raises(ConfigError, match=r"f\[1\]: a: missing"):
        parse_json(b'[{"a": 1}, {}]', list_of(record({"a": whole})), "f", "")
    with pytest.raises(ConfigError, match=r"f: \[\], expected at least 1 values"):
        parse_json(b"[]", list_of(whole, least=1), "f", "")


def test_a_file_of_a_bounded_size(tmp_path, monkeypatch):
    path = tmp_path / "f.json"
    path.write_bytes(b" " * 100)
    monkeypatch.setattr(json_files, "MOST_BYTES", 99)
    with pytest.raises(ConfigError, match=r"f\.json: larger than the maximum of 99 bytes"):
        json_files.read_json(path, whole, "fix it")


def test_lines(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_bytes(b'1\n"a"\n\xff\n3\n4')
    assert json_files.read_json_lines(path, whole) == ([1, 3, 4], [2, 3])
