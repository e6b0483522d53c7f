"""The network benchmarks run and their results are consistent."""

import json

import jax
import pytest

from benchmarks import inference, network, timing, train_step
from tests.lts_jax.helpers.tiny import TINY

ARGUMENTS = [
    "--config=configs/refcoco.py",
    *(f"--config.model.{name}={value}" for name, value in TINY.items()),
    "--repeats=2",
]


@pytest.fixture(autouse=True)
def fast(monkeypatch, repo_root):
    monkeypatch.chdir(repo_root)
    monkeypatch.setattr("benchmarks.timing.matrix_rate", lambda dtype: 1e9)


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", [pytest.param(train_step, marks=pytest.mark.slow), inference])
def test_ours_and_the_twin(benchmark, tmp_path, capsys):
    pytest.importorskip("torch")
    out = tmp_path / "out.json"
    benchmark.main([*ARGUMENTS, "--size=64", "--batch=8", "--against=torch", f"--out={out}"])
    (point,) = json.loads(out.read_text())["points"]
    assert {"ours", "torch eager"} <= set(point["rows"])
    for way, row in point["rows"].items():
        assert len(row["seconds"]) == 2
        operations = point["operations_per_sentence"] * row["sentences_per_second"]
        assert row["operations_per_second"] == pytest.approx(operations)
        devices = jax.device_count() if (benchmark, way) == (train_step, "ours") else 1
        assert row["share_of_matrix_rate"] == pytest.approx(operations / devices / 1e9)
    assert "torch eager" in capsys.readouterr().out


@pytest.mark.slow
def test_a_step_is_three_times_an_image_forward(tmp_path):
    counted = {}
    for benchmark in (train_step, inference):
        out = tmp_path / "out.json"
        benchmark.main([*ARGUMENTS, "--size=64", "--batch=8", f"--out={out}"])
        (point,) = json.loads(out.read_text())["points"]
        counted[benchmark] = point["operations_per_sentence"]
    # Less than three times: the pixels need no gradient.
    assert 2.5 < counted[train_step] / counted[inference] < 3


def test_a_sweep_ends_where_the_memory_does(tmp_path, capsys):
    def measure(args, config, batch):
        if batch > 2:
            raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory")
        return {"rows": timing.summarize({"ours": [1.0]}, batch, 1, args.rate)}

    out = tmp_path / "out.json"
    network.run("", measure, [*ARGUMENTS, "--sweep=batch", f"--out={out}"])
    points = json.loads(out.read_text())["points"]
    assert [p["batch"] for p in points] == [1, 2, 4] and points[-1]["out_of_memory"]
    with pytest.raises(SystemExit):
        network.run("", measure, [*ARGUMENTS, "--bathc=2"])
