"""The benchmarks of the input pipeline and startup, on a small generated dataset."""

import argparse
import json

import numpy as np
import pytest

import tfds_refcoco
from benchmarks import joint, pipeline, startup
from lts_jax.configs.default import get_config
from tests.helpers import add_custom
from tfds_refcoco.shapes import generate


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate(folder / "raw", scenes={"train": 4, "val": 2}, progress=False)
    tfds_refcoco.build("shapes", folder, folder / "raw", progress=False)
    return folder


def test_the_peer_reads_the_same_sentences(data, tmp_path):
    pytest.importorskip("torch", reason="compares with PyTorch")
    from benchmarks.peer import loader

    args = argparse.Namespace(data=data, dataset="shapes")
    split, preprocessing = pipeline.open_train(args)
    loader.write_files(split, tmp_path / "peer")
    samples = loader.list_samples(split, tmp_path / "peer", preprocessing)
    options = (samples, preprocessing.image_size, preprocessing.max_words)
    plain = loader.Samples(*options, normalize=False)
    usual = loader.Samples(*options, normalize=True)
    assert len(plain) == len(split.index)
    for row in range(len(plain)):
        ours = {k: v[0] for k, v in preprocessing.train_batch(split, [row]).items()}
        theirs = plain[row]
        assert ours.keys() == theirs.keys()
        for name in ("image", "tokens", "length"):
            np.testing.assert_array_equal(theirs[name], ours[name])
        for name in ("truth4", "truth8"):
            # PyTorch's loader samples a mask that was already resized.
            assert (theirs[name].numpy() == ours[name]).mean() > 0.97
        image = usual[row]["image"].numpy()
        np.testing.assert_allclose(image.transpose(1, 2, 0), ours["image"] / 255, atol=1e-6)


def test_speeds_are_compared_and_printed(data, tmp_path, monkeypatch, capsys):
    def run_process(way, arguments):
        args = argparse.Namespace(data=data, dataset="shapes", batch_size=4, workers=2)
        if way == "memory":
            return pipeline.memory_of_epochs(args)
        return pipeline.time_batches(pipeline.open_batches(pipeline.OURS, args), 1, 2)

    pytest.importorskip("torch", reason="compares with PyTorch")
    monkeypatch.setattr(pipeline, "run_process", run_process)  # avoid one process per measurement
    out = tmp_path / "result.json"
    arguments = ["--data", str(data), "--dataset", "shapes", "--against", "torch"]
    arguments += ["--work", str(tmp_path / "peer"), "--repeats", "2", "--out", str(out)]
    assert pipeline.main([*arguments, "--batch-size", "4", "--batches", "2"]) == 0
    result = json.loads(out.read_text())
    assert set(result["times_faster"]) == {"torch", "torch uint8"}
    assert all(len(speeds) == 2 for speeds in result["sentences_per_second"].values())
    assert result["two_epochs"]["sentences"] >= 2 * (result["split"]["sentences"] - 3)
    assert "times faster" in capsys.readouterr().out


def test_joint_training_compared_with_each_set(data, tmp_path, monkeypatch, capsys):
    """The startup of two datasets is measured; the other times are simulated."""
    add_custom(tmp_path / "data", data, {"train": range(2), "val": [3]}, sentences=2)
    parts = startup.first_batch(tmp_path / "data", "shapes+custom", no_torch=False)
    assert list(parts)[-1] == "first batch" and min(parts.values()) >= 0
    monkeypatch.setattr(startup, "run_process", lambda argv: parts | {"total": 3.0})
    took = iter([2.0, 1.0, 2.5, 2.2, 5.0, 2.0])  # shapes, custom, both; custom, both, shapes

    def time_batches(batches, skip, count):
        assert len(next(batches)["tokens"]) == batch_size
        return {"seconds": next(took), "cpu": 0.5}

    batch_size = get_config().train.batch_size
    monkeypatch.setattr(pipeline, "time_batches", time_batches)
    arguments = ["--data", str(tmp_path / "data"), "--sets", "shapes", "custom", "--repeats", "2"]
    arguments += ["--rounds", "2", "--out", str(tmp_path / "joint.json")]
    assert joint.main(arguments) == 0
    result = json.loads((tmp_path / "joint.json").read_text())
    kept = result["sets"]
    assert kept["shapes"]["dropped_images"] == 1 and kept["custom"]["sentences"] == 4
    speeds = result["joint_speed_by_that_of"]
    assert speeds["shapes"] == pytest.approx(np.median([2 / 2.5, 2 / 5]))
    assert speeds["custom"] == pytest.approx(np.median([1 / 2.5, 2.2 / 5]))
    n = kept["shapes"]["sentences"]
    mixed = [(n * 2 + 4 * 1) / 2.5, (n * 2 + 4 * 2.2) / 5]
    assert speeds["each set by its sentences"] == pytest.approx(np.median(mixed) / (n + 4))
    assert set(result["joint_speed_by_that_of_cpu_time"].values()) == {1.0}
    assert f"all together / shapes: {0.6:.3f}, by CPU time 1.000" in capsys.readouterr().out


def test_start_up_ends_with_a_batch(data, capsys):
    parts = startup.first_batch(data, "shapes", no_torch=False)
    assert list(parts)[-1] == "first batch" and min(parts.values()) >= 0
    run = {"start": 0.1, **parts, "total": 0.1 + sum(parts.values())}
    result = {"command": "c", "cpu": "x", "cpu_cores": 2, "date": "d", "runs": [run]}
    startup.print_result(result | {"median_seconds": run, "load_average_before_each_run": [0.0]})
    assert "first batch" in capsys.readouterr().out
