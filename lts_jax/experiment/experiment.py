"""A run, resolved from its config in one place."""

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
    """Everything that a config stands for; each part is made once, when it is first used.

    Attributes:
      config: of the run.
      mesh: the devices of the training state, or of a restored network.
      words: of the vocabulary, in order; None takes those of the training split.
      best_threshold: of a restored checkpoint, on its `eval.best_split`; None if unknown.
    """

    config: ConfigDict
    mesh: Mesh
    words: Sequence[str] | None = None
    best_threshold: thresholds.Threshold | None = None

    @classmethod
    def from_config(cls, config: ConfigDict, words: Sequence[str] | None = None) -> "Experiment":
        """Checks the config of a run to train, and puts the run on all devices.

        Raises:
          ConfigError: the config contradicts itself or the devices, or JAX is set to another
            arithmetic.
        """
        arithmetic.check()
        check_config(config)
        return cls(config, make_mesh(shards=config.train.shard_params), words)

    # ---- Data

    def build_dataset(self) -> None:
        """Builds the dataset if it is missing. For training alone.

        The config of a checkpoint is its author's, who must not choose what is built where.

        Raises:
          tfds_refcoco.DataError: it cannot be built.
        """
        data = self.config.data
        raw = Path(data.raw) if data.raw else None
        one_after_another(lambda: datasets.build_if_missing(data.dataset, Path(data.dir), raw))

    @cached_property
    def dataset(self) -> Dataset | JointDataset:
        """The dataset, or several; raises tfds_refcoco.DataError if one is missing or damaged."""
        data = self.config.data
        return open_datasets(
            Path(data.dir), data.dataset, data.train_split, allow_leaks=data.allow_leaks
        )

    @property
    def best_splits(self) -> list[str]:
        """The splits whose mean oIoU chooses the best checkpoint."""
        return [name.strip() for name in self.config.eval.best_split.split(",")]

    @cached_property
    def train_split(self) -> Split:
        """The sentences to train on; raises tfds_refcoco.DataError if there are none."""
        data = self.config.data
        images = Path(data.train_images) if data.train_images else None
        return datasets.open_train_split(self.dataset, data.train_split, images)

    @cached_property
    def vocabulary(self) -> Vocabulary | WordPieces:
        """The words of the training split, or those of the checkpoint; BERT's are its pieces."""
        return make_vocabulary(self.config, self.words, lambda: self.train_split.index.text)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How a sentence and its image become an example."""
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
        """The rows of the training split's index, in the order of training."""
        train = self.config.train
        return pipeline.training_order(
            self.train_split,
            self.config.seed,
            train.epoch_unit,
            train.sentences_per_image,
            self.config.data.mix,
        )

    def train_batches(self, features: Features | None = None) -> grain.DatasetIterator:
        """Returns this process's part of the training batches; `features` replace their images."""
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
        """Returns the `sent_id`s of the batch of a step, counted from 1."""
        rows = HostShare(self.training_order, self.config.train.batch_size)[step - 1]
        return [int(i) for i in self.train_split.index.sent_id[rows]]

    # ---- Schedule

    @cached_property
    def steps_per_epoch(self) -> float:
        """Training steps in an epoch."""
        return self.training_order.epoch_length / float(self.config.train.batch_size)

    @cached_property
    def timetable(self) -> Timetable:
        """When the run ends, evaluates and logs."""
        train, every = self.config.train, self.config.eval.every_epochs
        return Timetable(self.steps_per_epoch, float(train.epochs), every, train.log_every)

    @cached_property
    def schedule(self) -> optax.Schedule:
        """The learning rate by step, counted from 0."""
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
        """The parts that are frozen: some of `backbone` and `text`."""
        return [part for part in self.config.train.freeze.split("+") if part != "none"]

    @property
    def _draws(self) -> bool:
        """Whether a training step needs random numbers."""
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
        """As `abstract_state`, without the optimizer's part; it needs no data."""
        return self._abstract(optax.identity()).network()

    def initial_state(self) -> TrainState:
        """Draws the first training state from the seed, directly into its place."""
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
        """The devices of this process, on which it evaluates."""
        return make_mesh(jax.local_devices())

    @cached_property
    def encode_step(self) -> inference.EncodeStep:
        """Encodes images, on the devices of this process."""
        return inference.compile_encode_step(self.model, self.local_mesh)

    @property
    def thresholds(self) -> thresholds.Thresholds:
        """The thresholds of masks."""
        return thresholds.resolve(self.config.eval.threshold, self.best_threshold)

    @cached_property
    def score_step(self) -> scoring.ScoreStep:
        """Scores sentences about encoded images, on the devices of this process."""
        return scoring.compile_score_step(self.model, self.thresholds.values[:1], self.local_mesh)

    @cached_property
    def picture_step(self) -> scoring.ScoreStep:
        """As `score_step`, at both thresholds, with what files and pictures need."""
        both = self.thresholds.values
        return scoring.compile_score_step(self.model, both, self.local_mesh, pictures=True)

    def describe(self, split: Split, weights: dict[str, Any] | None = None) -> dict[str, Any]:
        """Returns everything that a reader needs to repeat the run.

        Args:
          split: that it trains on, or that is evaluated.
          weights: where the first weights came from, see `lts_jax.training.initialization`.
        """
        return {
            "config": plain_config(self.config),
            "data": datasets.describe_split(split),
            "vocabulary": datasets.describe_words(self.vocabulary.words),
            "weights": weights or {},
            **provenance.describe(),
        }
