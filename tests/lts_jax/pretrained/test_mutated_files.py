"""Randomly damaged PyTorch and safetensors files."""

import functools
import io

import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lts_jax.errors import ConfigError
from lts_jax.pretrained.backbone import load_backbone
from lts_jax.pretrained.layout import assemble
from tests.lts_jax.helpers import yolov3
from tests.lts_jax.pretrained.torch_models import (
    NORM,
    assert_equal,
    by_number,
    safetensors,
    save,
    state_dict,
    torch,
)

# Small, with layers of one shape in every stage and in the neck.
SMALL = yolov3.MINI._replace(stages=(2, 2, 2, 2, 2))


def mutate(data, i, rng):
    data = bytearray(data)
    kind = i % 5
    if kind == 0:
        data[rng.integers(min(len(data), 4096))] = rng.integers(256)
    elif kind == 1:
        for at in rng.integers(len(data), size=4):
            data[at] ^= 1 << rng.integers(8)
    elif kind == 2:
        del data[rng.integers(len(data)) :]
    elif kind == 3:
        at, n = rng.integers(len(data)), int(rng.integers(1, 64))
        data[at : at + (n if rng.integers(2) else 0)] = rng.bytes(n if rng.integers(2) else 1)
    else:  # the end of the file, which contains the directory of a zip archive
        at = len(data) - 1 - rng.integers(min(len(data), 6000))
        data[at] = rng.integers(256)
    return bytes(data)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_mutated_files(suffix, count, tmp_path):
    """Each file is rejected by name, or read exactly as by torch and safetensors."""
    arrays = yolov3.draw(SMALL.convs)
    naming = functools.partial(by_number, network=SMALL)
    state = state_dict(arrays, naming, SMALL)
    state = {k: v for k, v in state.items() if "num_batches" not in k}
    names = []
    for conv in SMALL.convs:
        weights, norm = naming(conv.path)
        names.append([*(f"{norm}.{NORM[key]}" for key in NORM), f"{weights}.weight"])
    whole = save(state, tmp_path / f"whole{suffix}").read_bytes()
    expected = flatten_dict(load_backbone(tmp_path / f"whole{suffix}", SMALL).variables, sep="/")
    rng, refused = np.random.default_rng(0), 0
    path = tmp_path / f"mutated{suffix}"
    for i in range(count):
        data = mutate(whole, i, rng)
        path.write_bytes(data)
        try:
            variables = load_backbone(path, SMALL).variables
        except ConfigError as error:
            assert str(path) in str(error)
            refused += 1
            continue
        got = flatten_dict(variables, sep="/")
        if all(np.array_equal(got[k], v) for k, v in expected.items()):
            continue
        assert suffix != ".pth"  # the archive has checksums
        theirs = (
            safetensors.load(data)
            if suffix == ".safetensors"
            else torch.load(io.BytesIO(data), weights_only=True)
        )
        # Each tensor has the numbers of its own name, or the old ones if that name changed.
        by_name = {
            conv.path: {
                key: theirs[name].float().numpy() if name in theirs else value
                for (key, value), name in zip(arrays[conv.path].items(), of_conv, strict=True)
            }
            for conv, of_conv in zip(SMALL.convs, names, strict=True)
        }
        assert_equal(variables, assemble(by_name))
    assert refused > 0.4 * count
