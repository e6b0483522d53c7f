"""A build with Apache Beam writes the same files as a plain build."""

import dataclasses
import json
import subprocess
import sys

import pytest

import tfds_refcoco
from tests.tfds_refcoco.helpers.trees import contents
from tfds_refcoco.__main__ import main
from tfds_refcoco.errors import DataError

WORKERS = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"


@pytest.fixture
def beam():
    return pytest.importorskip("apache_beam", reason="pip install '.[beam]' adds it")


@pytest.mark.slow
def test_several_workers_write_the_same_bytes(beam, write_raw, tmp_path, repo_root):
    root = write_raw()
    plain = tfds_refcoco.build("refcoco_unc", tmp_path / "plain", root, progress=False)
    out = tmp_path / "beam"
    # In a subprocess, because Beam's workers start by running the main module.
    command = [sys.executable, "-m", "tfds_refcoco", "build", "--dataset", "refcoco_unc"]
    command += ["--raw", str(root), "--out", str(out), f"--beam={WORKERS}"]
    done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert contents(plain) == contents(out / "tfds_refcoco/refcoco_unc/3.0.0")


@pytest.mark.slow
def test_many_shards_of_real_images(beam, mini_refcoco, tmp_path):
    import tensorflow_datasets as tfds

    from tfds_refcoco.writing.beam import parse_options
    from tfds_refcoco.writing.builder import TfdsRefcoco

    sources = []
    for options in (None, parse_options("--direct_num_workers=2")):
        folder = tmp_path / str(options is None)
        builder = TfdsRefcoco(config="refcoco_unc", data_dir=folder, file_format="array_record")
        config = tfds.download.DownloadConfig(
            manual_dir=mini_refcoco, try_download_gcs=False, num_shards=3, beam_options=options
        )
        builder.download_and_prepare(download_config=config)
        assert builder.info.splits["val"].num_shards == 3
        sources.append(contents(folder))
    assert sources[0] == sources[1]


def test_a_plan_is_serialized_without_loss(beam, mini_refcoco, tmp_path, monkeypatch):
    from apache_beam.options.pipeline_options import PipelineOptions

    from tfds_refcoco.raw.read import read_raw
    from tfds_refcoco.writing import beam as ours
    from tfds_refcoco.writing.shards import Plan

    images = read_raw(mini_refcoco, "refcoco_unc")["val"]
    images = (*images, dataclasses.replace(images[0], formats=("JPEG", "PNG"), objects=()))
    plan = Plan(tmp_path / "a.array_record", images, True, 17)
    monkeypatch.setattr(ours, "write_planned", _keep)
    with pytest.raises(FileNotFoundError):  # no file is written instead
        ours.write_shards([plan], PipelineOptions([]))
    assert ours.read_plan(tmp_path / "a.plan") == plan


def _keep(place):
    assert place


@pytest.mark.slow
def test_errors_in_workers(beam, write_raw, tmp_path):
    root = write_raw()
    (root / "images/train2014/COCO_train2014_000000000000.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"000000000000\.jpg: not a readable JPEG") as error:
        tfds_refcoco.build("refcoco_unc", tmp_path / "out", root, progress=False, beam="")
    assert error.value.skippable
    path = tfds_refcoco.build(
        "refcoco_unc", tmp_path / "out", root, progress=False, beam="", skip_bad=True
    )
    assert len(json.loads((path / "build.json").read_text())["skipped"]) == 1
    assert (
        tfds_refcoco.open_dataset(tmp_path / "out", "refcoco_unc").split("train").counts.images == 1
    )


def test_invalid_beam_options(beam, write_raw, tmp_path, capsys):
    command = ["build", "--dataset", "refcoco_unc", "--raw", str(write_raw())]
    command += ["--out", str(tmp_path / "out")]
    assert main([*command, "--beam=--runner=NoSuchRunner"]) == 1
    assert "error: --beam: " in capsys.readouterr().err
    for text in ("--direct_num_workers='", "--direct_num_workers=abc"):
        assert main([*command, f"--beam={text}"]) == 1
        assert "--beam: invalid Beam options" in capsys.readouterr().err


def test_the_error_without_beam_has_the_install_command(write_raw, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    monkeypatch.setitem(sys.modules, "apache_beam.options.pipeline_options", None)
    command = ["build", "--dataset", "refcoco_unc", "--raw", str(write_raw())]
    assert main([*command, "--out", str(tmp_path / "out"), "--beam="]) == 1
    assert "pip install 'lts_jax[beam]'" in capsys.readouterr().err
