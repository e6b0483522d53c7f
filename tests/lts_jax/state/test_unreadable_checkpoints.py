"""Damaged or implausible checkpoints are reported and skipped."""

import functools
import os
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.errors import ConfigError, UnreadableCheckpointError
from lts_jax.state import checkpoint_reader
from lts_jax.state import checkpoints as checkpoints_module
from lts_jax.state.checkpoint_reader import CheckpointReader
from lts_jax.state.checkpoints import Checkpoints
from lts_jax.state.fallback import read_chosen, read_newest
from lts_jax.state.fingerprint import fingerprint
from tests.lts_jax.helpers.small_states import RUN, large_state, make_iterator, make_state, restore


def test_a_damaged_checkpoint_is_named(saved):
    shutil.rmtree(saved / "checkpoints" / "5" / "state")
    with pytest.raises(ConfigError, match=r"checkpoint .*checkpoints/5 cannot be read"):
        Checkpoints(saved).restore_state(5, make_state(0))


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
        message = capsys.readouterr().err
        assert f"WARNING: checkpoint {saved}/checkpoints/5" in message
        aside = saved / "checkpoints_unreadable" / "5"
        assert f"resuming from step 4; step 5 was moved to {aside}" in message and aside.is_dir()
        assert (checkpoints.latest_step, checkpoints.best_step) == (4, 2)
        # The steps are repeated and saved under the same name.
        checkpoints.save(5, make_state(5), make_iterator(), RUN, ["a"])
    with Checkpoints(saved) as checkpoints:
        assert read_newest(checkpoints, lambda step: restore(checkpoints, step)) == (5, 5)


def arrays(folder):
    """Returns the files of a large array; small arrays are stored elsewhere."""
    paths = [p for p in (folder / "state").rglob("*") if p.is_file() and p.stat().st_size > 2**20]
    assert paths
    return paths


def empty(path):
    os.truncate(path, 0)


def fill_with_zeros(path):
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize("harm", [truncate, empty, fill_with_zeros, flip, os.unlink])
def test_a_damaged_array(tmp_path, harm, capsys):
    """A run resumes from the previous checkpoint, and an evaluation uses the next best."""
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
        assert "using step 1, the next best" in capsys.readouterr().err
        with pytest.raises(UnreadableCheckpointError, match="checkpoints/2 "):
            read_chosen(checkpoints, 2, read)
        with pytest.raises(UnreadableCheckpointError, match="checkpoints/2"):
            checkpoints.read_variables(2)
        assert checkpoints.read_variables(1)["params"]["w"].shape == (700_000,)
    with Checkpoints(tmp_path, clean=True) as checkpoints:
        restored = read_newest(
            checkpoints, lambda step: checkpoints.restore_state(step, large_state(0))
        )
        assert restored[0] == int(restored[1].step) == 1
        message = capsys.readouterr().err
        assert f"WARNING: checkpoint {tmp_path}/checkpoints/2" in message and "\n[" not in message


def test_where_the_only_one_that_was_evaluated_is_damaged(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        for step in (1, 2):
            checkpoints.save(step, large_state(step), make_iterator(), RUN, ["a"])
        checkpoints.score(2, {"oiou": 0.4})
    for path in arrays(tmp_path / "checkpoints" / "2"):
        truncate(path)
    with Checkpoints(tmp_path) as checkpoints:
        read = functools.partial(checkpoints.restore_network, abstract_state=large_state(0))
        with pytest.raises(
            ConfigError, match=r"can be read .* --checkpoint; available steps: 1, 2"
        ):
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


@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e30, -2e9])
@pytest.mark.parametrize("part", ["params", "batch_stats"])
def test_implausible_weights(tmp_path, monkeypatch, part, value, capsys):
    """The next best checkpoint is used; requesting the implausible one is an error."""
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
        message = "is not finite" if not np.isfinite(value) else r"has values above 1e\+09"
        assert read_chosen(checkpoints, None, checkpoints.read_variables)[0] == 1
        with pytest.raises(
            UnreadableCheckpointError, match=f"checkpoints/2: its network {message}"
        ):
            read_chosen(checkpoints, 2, checkpoints.read_variables)


@pytest.mark.parametrize("metric", ["NaN", "1e999", '"0.9"', "[0.9]", "true"])
def test_invalid_score_is_ignored(saved, metric, capsys):
    path = saved / "checkpoints" / "5" / "metrics" / "metrics"
    path.write_text(f'{{"oiou": {metric}}}')
    with CheckpointReader(saved) as checkpoints:
        assert not checkpoints.scored(5) and checkpoints.best_step == 2
    assert (
        "5/metrics/metrics cannot be read; treating the checkpoint as not"
        in capsys.readouterr().err
    )


def test_a_network_of_a_bounded_size(saved, monkeypatch):
    monkeypatch.setattr(checkpoint_reader, "MOST_NUMBERS", 6)
    with CheckpointReader(saved) as checkpoints:
        for read in (
            checkpoints.read_variables,
            functools.partial(checkpoints.restore_network, abstract_state=make_state(0)),
        ):
            with pytest.raises(UnreadableCheckpointError, match="has 7 numbers; the maximum is 6"):
                read(5)
