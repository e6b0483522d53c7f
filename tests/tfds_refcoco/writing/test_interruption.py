"""Builds that are killed, interrupted, or run concurrently."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from filelock import FileLock

import tfds_refcoco
from tests.tfds_refcoco.helpers.stalled import TIMEOUT, stalled_build
from tests.tfds_refcoco.helpers.trees import leftovers
from tfds_refcoco.errors import DataError


# While writing the records or the index.
@pytest.mark.slow
@pytest.mark.parametrize(
    "function", ["tfds_refcoco.records.record.read_image", "tfds_refcoco.masks.area"]
)
def test_a_killed_build_leaves_no_partial_dataset(write_raw, tmp_path, repo_root, function):
    raw, out = write_raw(), tmp_path / "out"
    with stalled_build(repo_root, function, raw, out) as child:
        child.send_signal(signal.SIGKILL)
    assert leftovers(out) == [".building-refcoco_unc"]
    assert not (out / "tfds_refcoco").exists()
    with pytest.raises(DataError, match="is not built"):
        tfds_refcoco.open_dataset(out, "refcoco_unc")
    path = tfds_refcoco.build("refcoco_unc", out, raw, progress=False)
    assert tfds_refcoco.open_dataset(out, "refcoco_unc").split("train").counts.images == 2
    assert path.is_dir() and not leftovers(out)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_build_removes_its_files(write_raw, tmp_path, repo_root, sent):
    raw, out = write_raw(), tmp_path / "out"
    function = "tfds_refcoco.records.record.read_image"
    with stalled_build(repo_root, function, raw, out) as child:
        child.send_signal(sent)
        errors = child.communicate(timeout=TIMEOUT)[1]
    assert child.returncode == 130
    assert errors.splitlines()[-1] == "Interrupted. Datasets that were already built are unchanged."
    assert "Traceback" not in errors and not leftovers(out)


def test_a_build_waits_for_another_build(write_raw, tmp_path, caplog):
    raw, out = write_raw(), tmp_path / "out"
    out.mkdir()
    with ThreadPoolExecutor(1) as pool, FileLock(out / ".building-refcoco_unc.lock"):
        build = pool.submit(tfds_refcoco.build, "refcoco_unc", out, raw, progress=False)
        deadline = time.monotonic() + TIMEOUT
        while "Waiting for another build" not in caplog.text and time.monotonic() < deadline:
            time.sleep(0.05)
        assert "Waiting for another build that holds" in caplog.text
        assert not build.done() and not (out / "tfds_refcoco").exists()
    assert build.result().is_dir()


@pytest.mark.slow
def test_two_concurrent_builds_succeed(write_raw, tmp_path, repo_root):
    raw, out = write_raw(), tmp_path / "out"
    command = [sys.executable, "-m", "tfds_refcoco", "build", "--dataset", "refcoco_unc"]
    command += ["--raw", str(raw), "--out", str(out)]
    children = [
        subprocess.Popen(command, cwd=repo_root, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    try:
        notes = [child.communicate(timeout=TIMEOUT)[1] for child in children]
    finally:
        for child in children:
            child.kill()
    assert [child.returncode for child in children] == [0, 0, 0], notes
    assert sum("already built" in note for note in notes) == 2
    assert tfds_refcoco.open_dataset(out, "refcoco_unc").split("val").counts.images == 1
    assert not leftovers(out)
