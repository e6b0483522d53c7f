"""Cached features of a frozen backbone give the same training without reading images."""

import jax
import numpy as np
import pytest

from lts_jax.config.validation import check_config
from lts_jax.data.features import FeatureFiles, write_features
from lts_jax.distributed.mesh import make_mesh, put_batch
from lts_jax.errors import ConfigError
from lts_jax.experiment.experiment import Experiment
from lts_jax.training.feature_cache import FeatureCache
from tests.lts_jax.helpers.drawn import draw_state


def make_experiment(config, tmp_path, shapes_dir, **train):
    config.train.update({"freeze": "backbone", "sentences_per_image": 2, **train})
    if not (tmp_path / "data").exists():
        (tmp_path / "data").mkdir()
        for path in shapes_dir.iterdir():
            (tmp_path / "data" / path.name).symlink_to(path)
    config.data.dir = str(tmp_path / "data")
    check_config(config)
    mesh = make_mesh(jax.devices()[:1])
    return Experiment(config, mesh)


@pytest.mark.parametrize("accumulate", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_losses_are_those_of_the_images(
    tiny_config_factory, tmp_path, shapes_dir, accumulate, monkeypatch
):
    config = tiny_config_factory
    plain = make_experiment(config(), tmp_path, shapes_dir, accumulate=accumulate)
    cached = make_experiment(
        config(), tmp_path, shapes_dir, accumulate=accumulate, cache_features="float32"
    )
    features = FeatureCache(cached)
    folder = features.fill(draw_state(cached.abstract_state))
    assert folder.parent == tmp_path / "data" / "features"
    reads = []
    monkeypatch.setattr(
        type(cached.preprocessing),
        "image",
        lambda self, record, out=None: reads.append(record) or 1 / 0,
    )
    batches = cached.train_batches(features)
    some = [next(batches) for _ in range(2)]
    monkeypatch.undo()
    assert not reads  # images are not read again
    losses = []
    for experiment, chosen in ((plain, plain.train_batches()), (cached, iter(some))):
        state = draw_state(experiment.abstract_state)
        of_run = []
        for _ in range(2):
            state, by_name = experiment.train_step(state, put_batch(next(chosen), experiment.mesh))
            of_run.append({name: float(value) for name, value in by_name.items()})
        losses.append(of_run)
        assert "backbone" in state.batch_stats
    for ours, theirs in zip(*losses, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-5)


def test_features_are_found_again_unless_something_differs(
    tiny_config_factory, tmp_path, shapes_dir
):
    def fill(change=lambda state: state, size=64, **train):
        config = tiny_config_factory()
        config.data.image_size = size
        experiment = make_experiment(
            config, tmp_path, shapes_dir, cache_features="float16", **train
        )
        return FeatureCache(experiment).fill(change(draw_state(experiment.abstract_state)))

    def scaled(part):
        def change(state):
            params = {**state.params}
            params[part] = jax.tree.map(lambda x: 1.1 * x, params[part])
            return state.replace(params=params)

        return change

    first = fill()
    written = (first / "features.json").stat().st_mtime_ns
    assert fill(scaled("fusion")) == first
    assert (first / "features.json").stat().st_mtime_ns == written
    assert fill(scaled("backbone")) != first
    assert fill(size=96) != first


def test_what_is_stored_is_what_was_given(tmp_path):
    rng = np.random.default_rng(0)
    taps = [rng.normal(0, 1, (5, 4, 4, 3)), rng.normal(0, 1, (5, 2, 2, 7))]
    batches = [[tap[i : i + 2] for tap in taps] for i in (0, 2)]
    batches.append([tap[[4, 4]] for tap in taps])  # padded
    write_features(tmp_path / "a", 5, batches, "float32")
    files = FeatureFiles(tmp_path / "a")
    assert len(files) == 5
    for stored, tap in zip(files.read([3, 0, 4]), taps, strict=True):
        np.testing.assert_array_equal(stored, tap[[3, 0, 4]].astype(np.float32))
    with pytest.raises(ConfigError, match="not all finite in float16; use float32"):
        write_features(tmp_path / "b", 2, [[np.full((2, 1, 1, 1), 1e5)]], "float16")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]  # the incomplete folder was removed
    (tmp_path / "a" / "tap1.npy").write_bytes((tmp_path / "a" / "tap0.npy").read_bytes())
    with pytest.raises(ConfigError, match="delete the directory"):
        FeatureFiles(tmp_path / "a")


def test_a_backbone_that_is_trained_has_no_cache(tiny_config_factory):
    config = tiny_config_factory()
    config.train.cache_features = "float16"
    for freeze in ("none", "text"):
        config.train.freeze = freeze
        with pytest.raises(ConfigError, match=r"train\.cache_features=float16 .* the backbone"):
            check_config(config)
