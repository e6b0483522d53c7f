"""Truncated, changed or padded Darknet files are rejected with the position of the damage."""

import re
import struct

import jax
import numpy as np
import pytest

from lts_jax.errors import ConfigError
from lts_jax.pretrained import darknet
from lts_jax.pretrained.darknet import read_darknet, write_darknet
from tests.lts_jax.helpers import yolov3
from tests.lts_jax.helpers.yolov3 import TINY


def test_invalid_files_are_rejected_with_their_position(tiny, tmp_path):
    arrays, numbers = tiny
    path = tmp_path / "bad"

    def refused(data, pattern):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=pattern):
            read_darknet(path, TINY)

    header = struct.pack("<iiiQ", 0, 2, 5, 0)
    whole = header + numbers.tobytes()
    refused(b"", "ends at byte 0, inside the header")
    refused(whole[:18], "ends at byte 18, inside the header")
    refused(struct.pack("<iii", 1, 2, 0) + whole[12:], r"bytes 0 to 12 give version 1\.2\.0")
    refused(whole[:-1], "not a multiple of 4")
    refused(whole[:-4], "ends at byte .* inside or before the weights of head2")
    refused(whole + b"\0" * 4, "continues after byte")
    refused(whole[: 20 + 4 * 10], r"ends at byte 60, .* weights of stem|mean of stem")
    for name, value, message in (
        ("var", -1.0, "-1.0"),
        ("scale", np.nan, "nan"),
        ("bias", 1e30, "1.0.*e\\+30"),
    ):
        changed = {k: {n: v.copy() for n, v in a.items()} for k, a in arrays.items()}
        changed["stage2_down"][name][3] = value
        data = header + yolov3.numbers(changed).tobytes()
        refused(data, f"byte [0-9]+, in the {name} of stage2_down, has the invalid value {message}")
    # Also in layers that are skipped.
    changed["stage2_down"]["bias"][3] = 0
    changed["head1"]["weights"][0, 0] = np.inf
    refused(
        header + yolov3.numbers(changed).tobytes(), "weights of head1, has the invalid value inf"
    )


def test_implausible_numbers_are_rejected_with_their_bytes(tiny, tmp_path):
    """As after an incomplete download."""
    _, numbers = tiny
    path = tmp_path / "bad"

    def refused(numbers, pattern):
        write_darknet(path, numbers)
        with pytest.raises(ConfigError, match=pattern):
            read_darknet(path, TINY)

    for kept in (0.16, 0.9, 0.9995):
        first = int(kept * len(numbers))
        zeros = np.where(np.arange(len(numbers)) < first, numbers, 0)
        end = 20 + 4 * len(numbers)
        refused(zeros, rf"bytes {20 + 4 * first} to {end}, from the .* to the end, .*incomplete")
    refused(np.zeros_like(numbers), r"bytes 20 to \d+, from the bias of stem to the end, 100%")
    starts = {f"{a.name} of {a.conv.path}": a for a in darknet._arrays(TINY.convs)}
    for name, value, message in (
        ("scale of stage2_down", 0, "contains only zeros"),
        ("scale of stage2_down", 1, r"contains only the number 1\.0"),
        ("var of neck0_reduce", 1, r"contains only the number 1\.0"),
        ("weights of stage3_down", 0, "contains only zeros"),
    ):
        array, changed = starts[name], numbers.copy()
        changed[array.start : array.start + array.size] = value
        at = f"bytes {20 + 4 * array.start} to {20 + 4 * (array.start + array.size)}"
        refused(changed, f"{at}: the array of {name} {message}, which training does not produce")
    first = starts["weights of stage5_down"].start + 7
    changed = numbers.copy()
    changed[first : first + 1024] = 0  # a disk block in the middle of an array
    refused(
        changed, f"bytes {20 + 4 * first} to {20 + 4 * (first + 1024)}, in the weights of stage5_"
    )
    changed = numbers.copy()
    changed[first : first + 99] = 0
    for name in ("bias of stem", "mean of stem"):  # as in a first layer without an offset
        changed[starts[name].start : starts[name].start + TINY.width] = 0
    write_darknet(path, changed)
    read_darknet(path, TINY)


def test_mutated_files(tmp_path):
    """Each file is rejected with a position, or read with exactly the numbers it contains."""
    network = yolov3.MINI
    write_darknet(tmp_path / "whole", yolov3.numbers(yolov3.draw(yolov3.all_convs(network, 18))))
    whole = (tmp_path / "whole").read_bytes()
    expected, _ = read_darknet(tmp_path / "whole", network)
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "mutated", 0
    for i in range(200):
        data = bytearray(whole)
        kind = i % 4
        if kind == 0:  # the header
            data[rng.integers(20)] ^= 1 << rng.integers(8)
        elif kind == 1:  # anywhere
            for at in rng.integers(len(data), size=3):
                data[at] = rng.integers(256)
        elif kind == 2:
            del data[rng.integers(len(data)) :]
        else:
            at = rng.integers(len(data))
            n = int(rng.integers(1, 9))
            data[at : at + (n if rng.integers(2) else 0)] = bytes(
                rng.integers(256, size=n - 1 or 1)
            )
        path.write_bytes(data)
        try:
            variables, _ = read_darknet(path, network)
        except ConfigError as error:
            assert re.search(r"bytes? \d+|\d+ bytes", str(error)), str(error)
            refused += 1
            continue
        # The format has no checksum: a changed finite number is read and only this one differs.
        assert len(data) == len(whole)
        changed = np.frombuffer(bytes(data[20:]), "<f4") != np.frombuffer(whole[20:], "<f4")
        differing = sum(
            int((a != b).sum())
            for a, b in zip(jax.tree.leaves(variables), jax.tree.leaves(expected), strict=True)
        )
        assert differing <= changed.sum() <= 8
    assert refused > 120
