"""Every command that reads a damaged file of a run reports it in one line."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest

from lts_jax.cli import tables
from lts_jax.config.flags import load_config
from lts_jax.configs.fields import plain_config
from lts_jax.io import array_files
from tests.lts_jax.helpers.damage import JSON, error_of
from tests.lts_jax.helpers.fake_runs import write_results

EVALUATION = ("run.json", "metrics.json", "analysis.json", "predictions.json")


@pytest.fixture(scope="module")
def run(trained_run, tmp_path_factory):
    """A run with one evaluated split."""
    run = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(trained_run / "eval" / "val", run / "eval" / "val")
    shutil.copyfile(trained_run / "metrics.jsonl", run / "metrics.jsonl")
    return run


def harmed(file, harms):
    """Yields a file with each kind of damage; restores it at the end."""
    good = file.read_bytes()
    try:
        for name, harm in harms.items():
            file.write_bytes(harm(good))
            yield name
    finally:
        file.write_bytes(good)


@pytest.mark.parametrize("name", EVALUATION)
def test_report(run, name):
    file = run / "eval" / "val" / name
    for harm in harmed(file, JSON):
        message = error_of("report", run)
        assert str(file) in message and "evaluate again" in message, (harm, message)
    assert not (run / "report.html").exists()


def test_report_names_the_field(run):
    file = run / "eval" / "val" / "analysis.json"
    content = json.loads(file.read_text())
    content["breakdowns"]["length"][1]["intervals"]["miou"] = [0.1, float("nan")]
    for _ in harmed(file, {"": lambda _: json.dumps(content).encode()}):
        message = error_of("report", run)
        assert "analysis.json: breakdowns.length[1].intervals.miou[1]: nan, expected" in message


@pytest.mark.parametrize("name", ["run.json", "predictions.json"])
def test_figures(run, name, tmp_path):
    file = run / "eval" / "val" / name
    for harm in harmed(file, JSON):
        assert str(file) in error_of("figures", "--workdir", run, "--out", tmp_path), harm


def test_compare(run, tmp_path):
    file = tmp_path / "predictions.json"
    shutil.copyfile(run / "eval" / "val" / "predictions.json", file)
    for harm in harmed(file, JSON):
        for pair in ((file, run), (run, tmp_path)):
            assert str(file) in error_of("compare", *pair), harm


def test_score(run, tmp_path, shapes_dir):
    file = tmp_path / "predictions.json"
    shutil.copyfile(run / "eval" / "val" / "predictions.json", file)
    arguments = ["--data", shapes_dir, "--dataset", "shapes", "--split", "val"]
    for harm in harmed(file, JSON):
        assert str(file) in error_of("score", "--predictions", file, *arguments), harm


@pytest.mark.parametrize("name", ["run.json", "eval/val/run.json", "eval/testA/metrics.json"])
def test_tables(repo_root, tmp_path, name, monkeypatch):
    monkeypatch.chdir(repo_root)
    monkeypatch.setattr(tables, "interrupt_on_signals", lambda: None)
    config, workdir = load_config("configs/shapes.py:lts"), tmp_path / "lts" / "seed0"
    write_results(workdir, config, 0.5)
    (workdir / "checkpoints" / "7").mkdir(parents=True)
    (workdir / "run.json").write_text(json.dumps({"config": plain_config(config)}))
    arguments = ["--config", "configs/shapes.py", "--table=1", "--seeds=1", "--read_only"]
    for harm in harmed(workdir / name, JSON):
        message = error_of("tables", *arguments, "--workdir", tmp_path)
        assert str(workdir / name) in message and "move it away" in message, harm


@pytest.mark.parametrize("line", [b"[1]", b'{"step": NaN}', b'{"step": 1, "x": "\xff"}', b"[" * 99])
def test_a_damaged_log(run, line):
    file = run / "metrics.jsonl"
    for _ in harmed(
        file, {"": lambda good: b"\n".join([*good.splitlines()[:1], line, b'{"step": 9}'])}
    ):
        assert f"{file}: line 2 is invalid" in error_of("report", run)


def test_a_folder_instead_of_a_file(run, tmp_path):
    for name in ("metrics.jsonl", "eval/val/metrics.json", "eval/val/predictions.json"):
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(run, tmp_path / "run")
        (tmp_path / "run" / name).unlink()
        (tmp_path / "run" / name).mkdir()
        assert f"{name}: cannot be read" in error_of("report", tmp_path / "run")


def npz(**arrays):
    data = io.BytesIO()
    np.savez_compressed(data, **arrays)
    return data.getvalue()


def claim(data, shape):
    """Returns a file whose heatmaps have a wrong shape in the header."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "heatmap.npy":
                header = io.BytesIO()
                fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(header, fields)
                content = header.getvalue() + content[-64:]
            new.writestr(name, content)
    return out.getvalue()


def parts(data):
    with np.load(io.BytesIO(data)) as arrays:
        return dict(arrays)


def flip(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 255]) + data[middle + 1 :]


HEATMAPS = {
    **{k: JSON[k] for k in ("empty", "half", "zeros", "binary", "null", "deep list")},
    "flipped": flip,
    "array": lambda data: npz(a=np.zeros(3)),
    "no zip": lambda data: data[:100] + bytes(100) + data[200:],
    "floats": lambda data: npz(**parts(data) | {"heatmap": np.float32(parts(data)["heatmap"])}),
    "fewer": lambda data: npz(**parts(data) | {"heatmap": parts(data)["heatmap"][1:]}),
    "others": lambda data: npz(**parts(data) | {"sent_id": parts(data)["sent_id"] + 1}),
    "objects": lambda data: npz(**parts(data) | {"sent_id": np.array([{}] * 3, object)}),
    "too long": lambda data: claim(data, (10**12, 1, 8, 8)),
    "cut": lambda data: claim(data, parts(data)["heatmap"].shape),
    "negative": lambda data: claim(data, (-1, 1, 8, 8)),
}


@pytest.mark.parametrize("name", ["report", "figures"])
def test_heatmaps(run, name, tmp_path):
    file = run / "eval" / "val" / "heatmaps.npz"
    arguments = [run] if name == "report" else ["--workdir", run, "--out", tmp_path]
    for harm in harmed(file, HEATMAPS):
        message = error_of(name, *arguments)
        assert str(file) in message and "evaluate again" in message, (harm, message)


def test_heatmaps_of_a_bounded_size(run, monkeypatch):
    """A malicious config may request the same size as the file."""
    monkeypatch.setattr(array_files, "MOST_BYTES", 1000)
    message = error_of("report", run)
    assert (
        "heatmaps.npz: heatmap: [" in message
        and "exceeds the maximum size of 1000 bytes" in message
    )
