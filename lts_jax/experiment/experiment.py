"""Creates the parts of a run from its config."""

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import grain
import jax
import optax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lts_jax.config.validation import check_config
from lts_jax.configs.fields import plain_config
from lts_jax.data import datasets, pipeline
from lts_jax.data.augmentation import Augmentation
from lts_jax.data.examples import Features, Preprocessing
from lts_jax.data.sampler import HostShare, TrainingOrder
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.data.word_pieces import WordPieces
from lts_jax.distributed.mesh import make_mesh, over_shards
from lts_jax.distributed.processes import one_after_another
from lts_jax.experiment import arithmetic, provenance, thresholds
from lts_jax.experiment.network import make_model, make_vocabulary
from lts_jax.experiment.timetable import Timetable
from lts_jax.models import Network
from lts_jax.state.train_state import TrainState, init_state
from lts_jax.steps import inference, optimizer, scoring, training
from tfds_refcoco.records.joint import JointDataset, open_datasets
from tfds_refcoco.records.reader import Dataset
from tfds_refcoco.records.split import Split


@dataclasses.dataclass(frozen=True)
class Experiment:
    """The parts of a run; each is created once, at its first use.

    Attributes:
      config: of the run.
      mesh: the devices of the training state, or of a restored network.
      words: of the vocabulary, in order; None uses the words of the training split.
      best_threshold: of a restored checkpoint, on its `eval.best_split`; None if unknown.
    """

    config: ConfigDict
    mesh: Mesh
    words: Sequence[str] | None = None
    best_threshold: thresholds.Threshold | None = None

    @classmethod
    def from_config(cls, config: ConfigDict, words: Sequence[str] | None = None) -> "Experiment":
        """Checks the config of a training run; the run uses all devices.

        Raises:
          ConfigError: the config is invalid or does not match the devices, or a setting of JAX is
            not supported.
        """
        arithmetic.check()
        check_config(config)
        return cls(config, make_mesh(shards=config.train.shard_params), words)

    # ---- Data

    def build_dataset(self) -> None:
        """Builds the dataset if it is missing; only for training.

        The config of a downloaded checkpoint is untrusted and must not cause a build.

        Raises:
          tfds_refcoco.DataError: the dataset cannot be built.
        """
        data = self.config.data
        raw = Path(data.raw) if data.raw else None
        one_after_another(lambda: datasets.build_if_missing(data.dataset, Path(data.dir), raw))

    @cached_property
    def dataset(self) -> Dataset | JointDataset:
        """The dataset or datasets; raises tfds_refcoco.DataError if one is missing or damaged."""
        data = self.config.data
        return open_datasets(
            Path(data.dir), data.dataset, data.train_split, allow_leaks=data.allow_leaks
        )

    @property
    def best_splits(self) -> list[str]:
        """The splits whose mean oIoU determines the best checkpoint."""
        return [name.strip() for name in self.config.eval.best_split.split(",")]

    @cached_property
    def train_split(self) -> Split:
        """The training split; raises tfds_refcoco.DataError if it is missing or empty."""
        data = self.config.data
        images = Path(data.train_images) if data.train_images else None
        return datasets.open_train_split(self.dataset, data.train_split, images)

    @cached_property
    def vocabulary(self) -> Vocabulary | WordPieces:
        """The words of the training split or checkpoint; for BERT, word pieces."""
        return make_vocabulary(self.config, self.words, lambda: self.train_split.index.text)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """Makes examples from sentences and images."""
        data, train = self.config.data, self.config.train
        return Preprocessing(
            self.vocabulary,
            data.image_size,
            data.max_words,
            data.resize,
            data.hide_sentence,
            Augmentation(train.flip, train.crop, train.mask_words, train.mask_patches),
            (4, 8) if self.config.model.refine == "none" else (1, 4, 8),
        )

    @cached_property
    def training_order(self) -> TrainingOrder:
        """The order of the training split's rows."""
        train = self.config.train
        return pipeline.training_order(
            self.train_split,
            self.config.seed,
            train.epoch_unit,
            train.sentences_per_image,
            self.config.data.mix,
        )

    def train_batches(self, features: Features | None = None) -> grain.DatasetIterator:
        """Returns this process's part of the training batches; `features` replace images."""
        batches = pipeline.train_batches(
            self.train_split,
            self.training_order,
            self.preprocessing,
            batch_size=self.config.train.batch_size,
            threads=self.config.data.threads,
            host=jax.process_index(),
            hosts=jax.process_count(),
            features=features,
        )
        return iter(batches)

    def sentence_ids(self, step: int) -> list[int]:
        """Returns the `sent_id`s in the batch of a step; steps are counted from 1."""
        rows = HostShare(self.training_order, self.config.train.batch_size)[step - 1]
        return [int(i) for i in self.train_split.index.sent_id[rows]]

    # ---- Schedule

    @cached_property
    def steps_per_epoch(self) -> float:
        """Training steps per epoch."""
        return self.training_order.epoch_length / float(self.config.train.batch_size)

    @cached_property
    def timetable(self) -> Timetable:
        """When the run ends, evaluates and logs."""
        train, every = self.config.train, self.config.eval.every_epochs
        return Timetable(self.steps_per_epoch, float(train.epochs), every, train.log_every)

    @cached_property
    def schedule(self) -> optax.Schedule:
        """The learning rate by step; steps are counted from 0."""
        train = self.config.train
        return optimizer.make_schedule(
            train.learning_rate,
            train.drop_epochs,
            train.drop_factor,
            self.steps_per_epoch,
            train.warmup_epochs,
            train.decay_power,
            self.timetable.total_steps,
        )

    # ---- Network, optimizer, state

    @cached_property
    def model(self) -> Network:
        """The network."""
        return make_model(self.config, len(self.vocabulary))

    @property
    def frozen(self) -> list[str]:
        """The frozen parts: `backbone`, `text`, both or none."""
        return [part for part in self.config.train.freeze.split("+") if part != "none"]

    @property
    def _draws(self) -> bool:
        """Whether a training step uses random numbers."""
        return bool(self.model.draws or self.config.train.noise_words)

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """The optimizer."""
        train = self.config.train
        frozen = self.frozen + ["words"] * ("text" in self.frozen)
        return optimizer.make_optimizer(
            self.schedule,
            train.lr_multipliers.to_dict(),
            frozen,
            train.weight_decay,
            train.clip_norm,
            train.ema,
        )

    @cached_property
    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the training state."""
        return self._abstract(self.optimizer)

    @cached_property
    def abstract_network(self) -> TrainState:
        """`abstract_state` without the optimizer state; does not need the data."""
        return self._abstract(optax.identity()).network()

    def initial_state(self) -> TrainState:
        """Initializes the training state from the seed, directly with its sharding."""
        place = jax.tree.map(lambda x: x.sharding, self.abstract_state)
        state: TrainState = jax.jit(lambda: self._init(self.optimizer), out_shardings=place)()
        return state

    def _init(self, optimizer: optax.GradientTransformation) -> TrainState:
        data = self.config.data
        return init_state(self.model, optimizer, self.config.seed, data.image_size, data.max_words)

    def _abstract(self, optimizer: optax.GradientTransformation) -> TrainState:
        shapes = jax.eval_shape(lambda: self._init(optimizer))
        abstract: TrainState = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            shapes,
            over_shards(shapes, self.mesh),
        )
        return abstract

    # ---- Compiled steps

    @cached_property
    def train_step(self) -> training.Step:
        """The training step."""
        settings = training.StepSettings(
            self.model,
            self.optimizer,
            self.config.train.location_weight,
            self.mesh,
            "backbone" in self.frozen,
            self.config.train.accumulate,
            "text" in self.frozen,
            self.config.seed if self._draws else None,
            self.config.train.dice_weight,
            self.config.train.noise_words,
            self.config.train.location_loss,
        )
        place = jax.tree.map(lambda x: x.sharding, self.abstract_state)
        return training.compile_train_step(settings, place)

    @cached_property
    def local_mesh(self) -> Mesh:
        """The devices of this process, for evaluation."""
        return make_mesh(jax.local_devices())

    @cached_property
    def encode_step(self) -> inference.EncodeStep:
        """The step that encodes images, on the devices of this process."""
        return inference.compile_encode_step(self.model, self.local_mesh)

    @property
    def thresholds(self) -> thresholds.Thresholds:
        """The thresholds of predicted masks."""
        return thresholds.resolve(self.config.eval.threshold, self.best_threshold)

    @cached_property
    def score_step(self) -> scoring.ScoreStep:
        """The step that scores sentences on encoded images, on the devices of this process."""
        return scoring.compile_score_step(self.model, self.thresholds.values[:1], self.local_mesh)

    @cached_property
    def picture_step(self) -> scoring.ScoreStep:
        """`score_step` at both thresholds, with additional outputs for files and pictures."""
        both = self.thresholds.values
        return scoring.compile_score_step(self.model, both, self.local_mesh, pictures=True)

    def describe(self, split: Split, weights: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns the information that is needed to reproduce the run.

        Args:
          split: that is used for training or evaluated.
          weights: sources of the initial weights, see `lts_jax.training.initialization`.
        """
        return {
            "config": plain_config(self.config),
            "data": datasets.describe_split(split),
            "vocabulary": datasets.describe_words(self.vocabulary.words),
            "weights": weights or {},
            **provenance.describe(),
        }
