"""The benchmark of exported networks, with a tiny network."""

import json

import pytest

from tests.lts_jax.helpers.tiny import TINY

pytest.importorskip("onnxruntime")
pytest.importorskip("torch")

from benchmarks import export


@pytest.mark.slow
def test_all_ways_compute_the_same(tmp_path, repo_root, monkeypatch, capsys):
    monkeypatch.chdir(repo_root)
    out = tmp_path / "out.json"
    sizes = [f"--config.model.{name}={value}" for name, value in TINY.items()]
    command = ["--config", "configs/shapes.py", "--config.data.image_size=64", *sizes]
    command += ["--against", "torch", "--batch", "2", "--repeats", "1"]
    export.main([*command, "--out", str(out)])
    result = json.loads(out.read_text())
    ways = {"jitted", "stablehlo", "onnx", "torch", "torch, channels last"}
    measured = result["by_batch"]["2"]
    assert measured["seconds"].keys() == ways
    assert all(value > 1e-3 for value in measured["spread_of_probabilities"].values())
    for of_way in measured["max_abs_probability_difference"].values():
        assert of_way.keys() == {"mask", "heatmap"} and max(of_way.values()) < 1e-4
    assert "batch 2" in capsys.readouterr().out
