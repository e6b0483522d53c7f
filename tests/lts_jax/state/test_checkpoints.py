import functools
import os
import resource
import shutil
import subprocess
from pathlib import Path

import grain
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.errors import (
    ConfigError,
    NonFiniteLossError,
    SaveError,
    UnreadableCheckpointError,
)
from lts_jax.state import checkpoint_reader
from lts_jax.state import checkpoints as checkpoints_module
from lts_jax.state.checkpoint_reader import CheckpointReader
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.state.fallback import read_chosen, read_newest
from lts_jax.state.fingerprint import fingerprint
from lts_jax.state.train_state import TrainState

RUN = {"config": {"seed": 3}, "data": {"images": 2}, "weights": {}}


def make_state(step):
    value = jnp.full((3,), float(step))
    return TrainState(jnp.int32(step), {"w": value}, {"mean": value + 1}, (value + 2,))


def make_iterator():
    return iter(grain.MapDataset.range(100).to_iter_dataset())


@pytest.fixture
def saved(tmp_path):
    """Five checkpoints, the second of them the best."""
    iterator = make_iterator()
    with Checkpoints(tmp_path) as checkpoints:
        for step, oiou in enumerate([0.1, 0.9, 0.3, 0.2, 0.5], start=1):
            next(iterator)
            checkpoints.save(step, make_state(step), iterator, RUN, ["a"])
            checkpoints.score(step, {"oiou": oiou})
    return tmp_path


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


def test_an_empty_workdir_has_none(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step is None and checkpoints.best_step is None


@pytest.mark.parametrize("read", [Checkpoints, CheckpointReader])
def test_a_workdir_that_is_not_utf8_is_refused(tmp_path, read):
    """TensorStore cannot name it, which would only be seen when everything is trained."""
    workdir = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff"))
    (workdir / "checkpoints").mkdir(parents=True)
    with pytest.raises(ConfigError, match=r"bytes that are not UTF-8.*rename it"):
        read(workdir)
    assert not list((workdir / "checkpoints").iterdir())


def test_a_damaged_checkpoint_is_named(saved):
    shutil.rmtree(saved / "checkpoints" / "5" / "state")
    with pytest.raises(ConfigError, match=r"checkpoint .*checkpoints/5 cannot be read"):
        Checkpoints(saved).restore_state(5, make_state(0))


def restore(checkpoints, step):
    checkpoints.read_run(step)
    checkpoints.restore_iterator(step, make_iterator())
    return int(checkpoints.restore_state(step, make_state(0)).step)


def largest(folder):
    return max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def change(path, old, new):
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    "harm",
    [
        lambda folder: truncate(largest(folder / "state" / "d")),
        lambda folder: largest(folder / "state" / "d").unlink(),
        lambda folder: flip(largest(folder / "state" / "d")),
        lambda folder: truncate(folder / "state" / "_METADATA"),
        lambda folder: (folder / "state" / "manifest.ocdbt").unlink(),
        lambda folder: shutil.rmtree(folder / "state"),
        lambda folder: truncate(folder / "iterator" / "process_0-of-1.json"),
        lambda folder: shutil.rmtree(folder / "iterator"),
        lambda folder: truncate(folder / "config" / "metadata"),
        lambda folder: (folder / "vocabulary" / "metadata").unlink(),
        lambda folder: (folder / "checksums" / "metadata").write_text('{"network": 17}'),
        lambda folder: (folder / "checksums" / "metadata").write_text('{"optimizer": 17}'),
        *(
            lambda folder, name=name, old=old, new=new: change(folder / name / "metadata", old, new)
            for name, old, new in (
                ("vocabulary", "a", "c"),
                ("config", "3", "2"),
                ("config", '"seed"', '"sead"'),
                ("data", "2", "6"),
                ("weights", "{}", '{"a": 1}'),
            )
        ),
        lambda folder: change(folder / "iterator" / "process_0-of-1.json", "5", "4"),
    ],
)
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(saved, harm, capsys):
    harm(saved / "checkpoints" / "5")
    with Checkpoints(saved, clean=True) as checkpoints:
        assert read_newest(checkpoints, lambda step: restore(checkpoints, step)) == (4, 4)
        said = capsys.readouterr().err
        assert f"WARNING: checkpoint {saved}/checkpoints/5" in said
        aside = saved / "checkpoints_unreadable" / "5"
        assert f"going on from step 4; step 5 was moved to {aside}" in said and aside.is_dir()
        assert (checkpoints.latest_step, checkpoints.best_step) == (4, 2)
        # The steps come again, and are saved under the same name.
        checkpoints.save(5, make_state(5), make_iterator(), RUN, ["a"])
    with Checkpoints(saved) as checkpoints:
        assert read_newest(checkpoints, lambda step: restore(checkpoints, step)) == (5, 5)


def arrays(folder):
    """The files of a large array's numbers; what is small lies elsewhere."""
    found = [p for p in (folder / "state").rglob("*") if p.is_file() and p.stat().st_size > 2**20]
    assert found
    return found


def empty(path):
    os.truncate(path, 0)


def fill_with_zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [truncate, empty, fill_with_zeros, flip, os.unlink])
def test_a_damaged_array(tmp_path, harm, capsys):
    """A run goes on from the checkpoint before, and an evaluation takes the next best."""
    with Checkpoints(tmp_path) as checkpoints:
        for step, oiou in ((1, 0.3), (2, 0.4)):
            checkpoints.save(step, large_state(step), make_iterator(), RUN, ["a"])
            checkpoints.score(step, {"oiou": oiou})
    for path in arrays(tmp_path / "checkpoints" / "2"):
        harm(path)
    with Checkpoints(tmp_path) as checkpoints:
        read = functools.partial(checkpoints.restore_network, abstract_state=large_state(0))
        chosen, network = read_chosen(checkpoints, None, read)
        assert (chosen, int(network.step)) == (1, 1)
        assert "taking step 1, the next best" in capsys.readouterr().err
        with pytest.raises(UnreadableCheckpointError, match="checkpoints/2 "):
            read_chosen(checkpoints, 2, read)
        with pytest.raises(UnreadableCheckpointError, match="checkpoints/2"):
            checkpoints.read_variables(2)
        assert checkpoints.read_variables(1)["params"]["w"].shape == (700_000,)
    with Checkpoints(tmp_path, clean=True) as checkpoints:
        found = read_newest(
            checkpoints, lambda step: checkpoints.restore_state(step, large_state(0))
        )
        assert found[0] == int(found[1].step) == 1
        said = capsys.readouterr().err
        assert f"WARNING: checkpoint {tmp_path}/checkpoints/2" in said and "\n[" not in said


def test_where_the_only_one_that_was_evaluated_is_damaged(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, large_state(step), make_iterator(), RUN, ["a"])
        checkpoints.score(2, {"oiou": 0.4})
    for path in arrays(tmp_path / "checkpoints" / "2"):
        truncate(path)
    with Checkpoints(tmp_path) as checkpoints:
        read = functools.partial(checkpoints.restore_network, abstract_state=large_state(0))
        with pytest.raises(ConfigError, match=r"cannot be read .* --checkpoint; there are 1, 2"):
            read_chosen(checkpoints, None, read)


def test_damaged_metrics_are_measured_again(saved, capsys):
    truncate(saved / "checkpoints" / "5" / "metrics" / "metrics")
    with Checkpoints(saved) as checkpoints:
        assert "checkpoints/5/metrics/metrics cannot be read" in capsys.readouterr().err
        assert not checkpoints.scored(5) and checkpoints.best_step == 2
        checkpoints.score(5, {"oiou": 0.95})
    assert Checkpoints(saved).best_step == 5


def test_where_none_can_be_read_all_stay(saved):
    for step in (2, 4, 5):
        shutil.rmtree(saved / "checkpoints" / str(step) / "state")
    with Checkpoints(saved) as checkpoints, pytest.raises(ConfigError, match="no checkpoint can"):
        read_newest(checkpoints, lambda step: restore(checkpoints, step))
    assert sorted(path.name for path in (saved / "checkpoints").iterdir()) == ["2", "4", "5"]


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
        with pytest.raises(ConfigError, match=r"that was evaluated: train on, .* there are 3"):
            checkpoints.choose(None)
        assert checkpoints.choose(3) == 3


def large_state(step):
    noise = np.random.default_rng(step).standard_normal(700_000).astype(np.float32)
    return make_state(step).replace(params={"w": jnp.asarray(noise)})  # 2.8 MB


def fails_and_recovers(workdir, why, make_room):
    """The save of step 6 fails; the next start goes on from 5, and leaves nothing of it."""
    checkpoints = Checkpoints(workdir, clean=True)
    with pytest.raises(SaveError) as error, checkpoints:
        checkpoints.save(6, large_state(6), make_iterator(), RUN, ["a"])
    assert f"{workdir}/checkpoints: a checkpoint could not be written: " in str(error.value)
    assert why in str(error.value)
    assert "the same command goes on" in str(error.value)
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
    """As a full disk, where nothing can be mounted."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
        fails_and_recovers(saved, "", lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e30, -2e9])
@pytest.mark.parametrize("part", ["params", "batch_stats"])
def test_weights_that_no_training_leaves(tmp_path, monkeypatch, part, value, capsys):
    """The next best is taken, as where it is damaged; by name they are refused."""
    real = fingerprint
    unseen = lambda tree: real(tree)._replace(finite=True, plausible=True)  # noqa: E731
    harmed = make_state(2).replace(**{part: {"w": jnp.array([1.0, value])}})
    for step, state, oiou in ((1, make_state(1), 0.3), (2, harmed, 0.9)):
        with monkeypatch.context() as patch:
            for module in (checkpoints_module, checkpoint_reader):
                patch.setattr(module, "fingerprint", unseen)
            with Checkpoints(tmp_path) as checkpoints:
                checkpoints.save(step, state, make_iterator(), RUN, ["a"])
                checkpoints.score(step, {"oiou": oiou})
    with CheckpointReader(tmp_path) as checkpoints:
        said = "is not finite" if not np.isfinite(value) else r"holds numbers above 1e\+09"
        assert read_chosen(checkpoints, None, checkpoints.read_variables)[0] == 1
        with pytest.raises(UnreadableCheckpointError, match=f"checkpoints/2: its network {said}"):
            read_chosen(checkpoints, 2, checkpoints.read_variables)


def test_absurd_numbers_are_not_saved(saved):
    absurd = make_state(6).replace(params={"w": jnp.array([1.0, -1e30])})
    with (
        Checkpoints(saved) as checkpoints,
        pytest.raises(NonFiniteLossError, match=r"are larger than 1e\+09 after step 6"),
    ):
        checkpoints.save(6, absurd, make_iterator(), RUN, ["a"])


@pytest.mark.parametrize("metric", ["NaN", "1e999", '"0.9"', "[0.9]", "true"])
def test_a_score_that_is_none_chooses_nothing(saved, metric, capsys):
    path = saved / "checkpoints" / "5" / "metrics" / "metrics"
    path.write_text(f'{{"oiou": {metric}}}')
    with CheckpointReader(saved) as checkpoints:
        assert not checkpoints.scored(5) and checkpoints.best_step == 2
    assert "5/metrics/metrics cannot be read, and counts as not" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["run[1]", "a]b", "x*", "y?", "back\\slash", os.fsdecode(b"\xe9")])
def test_a_path_that_orbax_cannot_read(tmp_path, name):
    """Orbax only warns, when everything is trained."""
    for make in (Checkpoints, CheckpointReader):
        with pytest.raises(ConfigError, match="Orbax cannot read checkpoints from a path with"):
            make(tmp_path / name / "run")
    assert not (tmp_path / name).exists()


def test_other_paths_are_read(tmp_path):
    workdir = tmp_path / "a b{c}%20|é\u4e2d:;&$!~@#+,()<>'\"^`=" / "run"
    with Checkpoints(workdir) as checkpoints:  # which reads the first one back
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
        with pytest.raises(SaveError, match=r"was written and cannot be read back: checkpoint"):
            checkpoints.save(1, make_state(1), make_iterator(), RUN, ["a"])
        monkeypatch.undo()


def test_a_network_of_a_bounded_size(saved, monkeypatch):
    monkeypatch.setattr(checkpoint_reader, "MOST_NUMBERS", 6)
    with CheckpointReader(saved) as checkpoints:
        for read in (
            checkpoints.read_variables,
            functools.partial(checkpoints.restore_network, abstract_state=make_state(0)),
        ):
            with pytest.raises(UnreadableCheckpointError, match="of 7 numbers; at most 6 are read"):
                read(5)
