"""Compiling for devices that are not attached; the compilers are optional extras."""

import importlib.util
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import compile_for
from benchmarks.compiled import report, topology
from benchmarks.compiled.devices import DEVICES
from lts_jax.errors import ConfigError
from tests.lts_jax.helpers.tiny import TINY


@pytest.mark.parametrize("slope", [1.0, 3.7, 40.0])
def test_largest_batch(slope):
    """Agrees within 2 % with an exhaustive search, with few compilations; may be 0."""
    for base, noise in ((0, 0), (500, 30), (10**6, 0)):

        def peak(n, base=base, noise=noise):
            return base + slope * n + noise * (n % 3)

        best = max((n for n in range(4, 10**4 + 4, 4) if peak(n) <= 10_000), default=0)
        batch, tries = compile_for.largest_batch(peak, 10_000, 4)
        assert peak(batch) <= 10_000 or batch == 0
        assert batch <= best and batch >= 0.95 * best - 4
        assert tries <= 12


def test_largest_batch_where_some_do_not_compile():
    batch, tries = compile_for.largest_batch(
        lambda n: 10.0 * n if n < 40 else float("inf"), 10**6, 1
    )
    assert batch == 39 and tries < 25


def test_peak_and_model():
    plan = SimpleNamespace(
        argument_size_in_bytes=100,
        output_size_in_bytes=90,
        alias_size_in_bytes=80,
        temp_size_in_bytes=1000,
    )
    assert report.peak(plan) == 1110
    h100 = DEVICES["h100"]
    model = report.model(h100, 3352.32e9, 989.4e12 / 2, 225e9, "bfloat16")
    assert model["seconds"] == pytest.approx(1) == model["memory_seconds"] == model["link_seconds"]
    assert model["operations_seconds"] == pytest.approx(0.5)


@pytest.mark.parametrize("name", DEVICES)
def test_published_numbers(name):
    """Checks the units: bytes, bytes per second and operations per second."""
    device = DEVICES[name]
    assert 8 * 2**30 < device.memory < 200 * 2**30
    assert 5e11 < device.bandwidth < 1e13 and 5e13 < device.float32 <= device.bfloat16 < 2e15
    assert device.source


def test_unknown_slice():
    with pytest.raises(
        ConfigError, match="--devices 3 is not the size of a TPU slice; use one of 1, 4, 8"
    ):
        topology.devices_of("v5e", 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "compiler"), [("h100", "jax_plugins.xla_cuda13"), ("v5e", "libtpu")]
)
def test_the_tiny_network(device, compiler, tmp_path, repo_root):
    """Compiles all programs in a separate process, because a compiler affects JAX's devices."""
    if not has(compiler):
        pytest.skip(f"requires {compiler}, from the extra compile-gpu or compile-tpu")
    out = tmp_path / "out.json"
    fields = {f"model.{k}": v for k, v in TINY.items()} | {"data.image_size": 64}
    command = [sys.executable, "-m", "benchmarks.compile_for", f"--device={device}", "--batch=8"]
    command += ["--config=refcoco", *(f"--config.{k}={v}" for k, v in fields.items())]
    command += [f"--out={out}", "--programs", "train", "encode", "score"]
    command += ["predict_image", "predict_text"]
    subprocess.run(command, check=True, cwd=repo_root)
    programs = json.loads(out.read_text())["programs"]
    assert len(programs) == 5 and all(of["compiled"] for of in programs.values())
    train = programs["train"]
    assert train["memory"]["peak"] > train["memory"]["arguments"] > train["memory"]["reused"] > 0
    assert train["traffic"]["bytes_per_example"] > 0 and len(train["traffic"]["largest"]) == 20
    assert train["operations"] > programs["train"]["kernels"]["different"] > 100


def has(module):
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False
