import os
import resource
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import pytest

from lts_jax.errors import ConfigError, NonFiniteLossError, SaveError
from lts_jax.state.checkpoint_reader import CheckpointReader
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.state.fallback import read_newest
from tests.lts_jax.helpers.small_states import RUN, large_state, make_iterator, make_state, restore


def test_the_latest_two_and_the_best_are_kept(saved):
    names = sorted(path.name for path in (saved / "checkpoints").iterdir())
    assert names == ["2", "4", "5"]
    checkpoints = Checkpoints(saved)
    assert (checkpoints.latest_step, checkpoints.best_step) == (5, 2)


def test_everything_comes_back(saved):
    checkpoints = Checkpoints(saved)
    restored = checkpoints.restore_state(5, make_state(0))
    assert int(restored.step) == 5
    assert restored.params["w"].tolist() == [5.0] * 3
    assert restored.batch_stats["mean"].tolist() == [6.0] * 3
    read = checkpoints.read_run(5)
    assert read.pop("checksums").keys() == {
        "network",
        "optimizer",
        "iterator",
        "config",
        "data",
        "vocabulary",
        "weights",
    }
    assert read == {**RUN, "vocabulary": ["a"]}
    iterator = make_iterator()
    checkpoints.restore_iterator(5, iterator)
    assert next(iterator) == 5


def test_empty_workdir_has_no_checkpoints(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step is None and checkpoints.best_step is None


@pytest.mark.parametrize("read", [Checkpoints, CheckpointReader])
def test_workdir_that_is_not_utf8_is_rejected(tmp_path, read):
    """TensorStore cannot open such paths, which would otherwise only fail after training."""
    workdir = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    (workdir / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"bytes that are not UTF-8.*rename the folder"):
        read(workdir)
    assert not list((workdir / "checkpoints").iterdir())


def test_nothing_that_is_not_finite_is_saved(saved):
    for part in ({"w": jnp.array([1.0, jnp.nan])}, {"w": jnp.array([jnp.inf])}):
        with (
            Checkpoints(saved) as checkpoints,
            pytest.raises(NonFiniteLossError, match=r"after step 6; the last good .* step 5"),
        ):
            checkpoints.save(6, make_state(6).replace(params=part), make_iterator(), RUN, ["a"])
    assert sorted(path.name for path in (saved / "checkpoints").iterdir()) == ["2", "4", "5"]


def test_a_run_that_was_stopped_before_its_evaluation_has_no_best(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, make_state(3), make_iterator(), RUN, ["a"])
        with pytest.raises(
            ConfigError, match=r"that was evaluated: resume training, .* available steps: 3"
        ):
            checkpoints.choose(None)
        assert checkpoints.choose(3) == 3


def fails_and_recovers(workdir, why, make_room):
    """Saving step 6 fails; the next start resumes from 5 and removes the incomplete save."""
    checkpoints = Checkpoints(workdir, clean=True)
    with pytest.raises(SaveError) as error, checkpoints:
        checkpoints.save(6, large_state(6), make_iterator(), RUN, ["a"])
    assert f"{workdir}/checkpoints: a checkpoint could not be written: " in str(error.value)
    assert why in str(error.value)
    assert "rerun the same command to resume" in str(error.value)
    make_room()
    with Checkpoints(workdir, clean=True) as checkpoints:
        assert read_newest(checkpoints, lambda step: restore(checkpoints, step)) == (5, 5)
        checkpoints.save(7, make_state(7), make_iterator(), RUN, ["a"])
    assert sorted(path.name for path in (workdir / "checkpoints").iterdir()) == ["2", "5", "7"]


def test_a_full_disk(saved, tmp_path_factory):
    disk = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted: {error}")
    try:
        shutil.copytree(saved, disk / "run")
        fails_and_recovers(disk / "run", "the disk is full", lambda: None)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_file_that_may_not_grow(saved):
    """Simulates a full disk if no file system can be mounted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        fails_and_recovers(saved, "", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_absurd_numbers_are_not_saved(saved):
    absurd = make_state(6).replace(params={"w": jnp.array([1.0, -1e30])})
    with (
        Checkpoints(saved) as checkpoints,
        pytest.raises(NonFiniteLossError, match=r"are larger than 1e\+09 after step 6"),
    ):
        checkpoints.save(6, absurd, make_iterator(), RUN, ["a"])


@pytest.mark.parametrize("name", ["run[1]", "a]b", "x*", "y?", "back\\slash", os.fsdecode(b"\xe9")])
def test_a_path_that_orbax_cannot_read(tmp_path, name):
    """Orbax only warns, after training."""
    for make in (Checkpoints, CheckpointReader):
        with pytest.raises(ConfigError, match="Orbax cannot read checkpoints from a path with"):
            make(tmp_path / name / "run")
    assert not (tmp_path / name).exists()


def test_other_paths_are_read(tmp_path):
    workdir = tmp_path / "a b{c}%20|é\u4e2d:;&$!~@#+,()<>'\"^`=" / "run"
    with Checkpoints(workdir) as checkpoints:  # reads the first checkpoint back
        checkpoints.save(1, make_state(1), make_iterator(), RUN, ["a"])
        assert int(checkpoints.restore_state(1, make_state(0)).step) == 1


def test_the_first_checkpoint_is_read_back(tmp_path, monkeypatch):
    with Checkpoints(tmp_path) as checkpoints:
        real = checkpoints._writer.wait_until_finished

        def lose():
            real()
            for path in (tmp_path / "checkpoints" / "1" / "state").glob("d/*"):
                path.unlink()

        monkeypatch.setattr(checkpoints._writer, "wait_until_finished", lose)
        with pytest.raises(SaveError, match=r"was written but cannot be read back: checkpoint"):
            checkpoints.save(1, make_state(1), make_iterator(), RUN, ["a"])
        monkeypatch.undo()
