import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ml_collections import ConfigDict

import tfds_refcoco
from lts_jax.configs import shapes
from lts_jax.io.console import configure_logging
from tests.helpers import made_once
from tests.lts_jax.helpers.tiny import TINY
from tfds_refcoco.records.reader import Dataset
from tfds_refcoco.shapes import generate

if TYPE_CHECKING:
    from lts_jax.evaluation.run import Results
    from tests.lts_jax.helpers.fake_runs import FakeRuns


@pytest.fixture(autouse=True)
def logged() -> None:
    """Configures logging as the commands do."""
    configure_logging()


@pytest.fixture(scope="session")
def shapes_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a small `shapes` dataset, built by the real builder."""

    def make(folder: Path) -> None:
        scenes = {"train": 24, "val": 6, "testA": 4, "testB": 3}
        generate(folder / "raw", scenes=scenes, progress=False)
        tfds_refcoco.build("shapes", folder, folder / "raw", progress=False)

    return made_once(tmp_path_factory, "data", make, copied=False)


@pytest.fixture(scope="session")
def shapes_data(shapes_dir: Path) -> Dataset:
    """The dataset in `shapes_dir`."""
    return tfds_refcoco.open_dataset(shapes_dir, "shapes")


@pytest.fixture(scope="session")
def tiny_config_factory(shapes_dir: Path) -> Callable[[], ConfigDict]:
    """Creates configs/shapes.py for `shapes_dir`, with a tiny network and a few steps of 8."""

    def make() -> ConfigDict:
        config = shapes.get_config()
        config.data.dir = str(shapes_dir)
        config.data.image_size = 64
        config.model.update(TINY)
        config.train.batch_size = 8
        config.train.sentences_per_image = 1
        config.train.epochs = 0.6
        config.train.drop_epochs = (0.45,)
        config.train.log_every = 1
        config.eval.every_epochs = 0.15
        config.eval.batch_size = 8
        config.eval.gallery = 2
        return config

    return make


@pytest.fixture(scope="session")
def whole_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_config_factory: Callable[[], ConfigDict]
) -> tuple[Path, "Results"]:
    """The workdir and the metrics of an uninterrupted run."""
    from lts_jax.training.loop import train_and_evaluate

    def make(workdir: Path) -> None:
        train_and_evaluate(tiny_config_factory(), workdir)

    workdir = made_once(tmp_path_factory, "whole", make, copied=True)
    splits = tiny_config_factory().eval.splits
    return workdir, {
        name: json.loads((workdir / "eval" / name / "metrics.json").read_text()) for name in splits
    }


@pytest.fixture(scope="session")
def trained_run(
    tmp_path_factory: pytest.TempPathFactory, tiny_config_factory: Callable[[], ConfigDict]
) -> Path:
    """The workdir of an evaluated run with random parameters, to avoid compiling training."""
    from lts_jax.evaluation.run import evaluate
    from lts_jax.experiment.experiment import Experiment
    from lts_jax.state.checkpoints import Checkpoints
    from lts_jax.training.logs import MetricWriter
    from tests.lts_jax.helpers.drawn import draw_state

    def make(workdir: Path) -> None:
        config = tiny_config_factory()
        config.eval.batch_size = 3  # per device; all images of testB
        experiment = Experiment.from_config(config)
        state = draw_state(experiment.abstract_state, step=7)
        run = experiment.describe(experiment.train_split)
        with Checkpoints(workdir) as checkpoints:
            words = experiment.vocabulary.words
            checkpoints.save(7, state, experiment.train_batches(), run, words)
            checkpoints.score(7, {"oiou": 0.5, "best_threshold": 0.4})
        with MetricWriter(workdir, 0) as writer:
            for step in (1, 7):
                writer.write(step, {"train/loss": 9.0 / step, "val/oiou": step / 10})
        evaluate(config, workdir)

    return made_once(tmp_path_factory, "trained", make, copied=True)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, repo_root: Path) -> "FakeRuns":
    """Replaces the training processes of `lts tables`."""
    from lts_jax.paper import runs, tables
    from tests.lts_jax.helpers.fake_runs import FakeRuns

    monkeypatch.chdir(repo_root)
    fake = FakeRuns()
    monkeypatch.setattr(tables, "prepare_data", lambda _: None)
    monkeypatch.setattr(runs.Children, "call", lambda _, command, log: fake.call(command, log))
    return fake
