"""Predicts masks for any image and sentence."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from lts_jax.distributed.mesh import make_mesh, one_device
from lts_jax.experiment.pretrained import load_pretrained
from lts_jax.experiment.restore import Trained, restore
from lts_jax.inference.prediction import (
    Located,
    Photo,
    Phrase,
    Picture,
    Prediction,
    at_original_size,
    parse_all,
    read,
)
from lts_jax.inference.programs import Programs, compile_programs
from lts_jax.inference.stream import Pair, predict_stream
from lts_jax.models import PreparedImage
from tfds_refcoco import DataError


class Encoded(NamedTuple):
    """An encoded image, to predict for several sentences."""

    photo: Photo
    features: PreparedImage


class Predictor:
    """A trained network that predicts masks.

        predictor = lts_jax.Predictor.from_pretrained("photos")
        left, cup = predictor("photo.jpg", ["man on the left", "red cup"])

    Args:
      workdir: the workdir of a run, or a network that was already restored.
      step: the step of the checkpoint; None selects the best readable one.
      config: the config to use; None selects the checkpoint's. Only fields that do not change the
        network may differ from it.

    Attributes:
      config: the config in use.
      threshold: a mask contains the pixels of a greater probability; see `eval.threshold`.

    Raises:
      ConfigError: the workdir holds no such checkpoint.
    """

    def __init__(
        self,
        workdir: str | Path | Trained,
        step: int | None = None,
        config: ConfigDict | None = None,
    ) -> None:
        if isinstance(workdir, Trained):
            trained = workdir
        else:
            trained = restore(Path(workdir), one_device(), step, config)
        self._experiment = trained.experiment
        self._preprocessing = trained.experiment.preprocessing
        self._state = trained.state
        self._compiled: dict[tuple[int, int], Programs] = {}
        self.config = trained.experiment.config
        self.threshold = trained.experiment.thresholds.used.value

    @classmethod
    def from_pretrained(cls, reference: str | Path, overrides: Sequence[str] = ()) -> "Predictor":
        """Loads a network by its name in `lts models`, from a folder, or from the hub.

        Args:
          reference: a name, a folder, or `hf://owner/name[@revision]`; see
            `lts_jax.experiment.pretrained.load_pretrained`.
          overrides: fields of its config, such as `--config.eval.threshold=0.4`.

        Raises:
          ConfigError: there is no such network, or a file of it is missing or damaged.
        """
        return cls(load_pretrained(reference, one_device(), overrides))

    def __call__(self, image: Picture, texts: str | Sequence[str | Phrase]) -> list[Prediction]:
        """Predicts a mask for each sentence; the image is read and encoded once.

        Args:
          image: a path, the bytes of a file, a PIL image, or uint8 `[h, w, 3]`; see
            `lts_jax.data.image_files.read_photo`.
          texts: one sentence or several.

        Returns:
          One prediction for each sentence.

        Raises:
          DataError: the image cannot be read, or a sentence has no words.
          NonFiniteOutputError: the network's outputs are not finite.
        """
        phrases = parse_all(texts)
        encoded = self.encode(image)
        return [self.find(encoded, phrase) for phrase in phrases]

    def map(
        self, pairs: Iterable[Pair], batch_size: int | None = None
    ) -> Iterator[list[Prediction] | DataError]:
        """Predicts for many images, in batches, on all devices; threads read ahead.

            for found in predictor.map((file, ["man on the left", "red cup"]) for file in files):
                if isinstance(found, tfds_refcoco.DataError):
                    print(found)
                    continue
                left, cup = found

        Predictions equal those of one call for each image, except for rounding. Each batch size is
        compiled once. Memory holds the images of three batches for each device, and one image for
        each of `config.data.threads`.

        Args:
          pairs: an image, and one sentence or several.
          batch_size: images, and sentences, in a batch of one device; None selects 1 on CPUs,
            which do not gain from larger batches, and 8 otherwise.

        Yields:
          For each pair, in order, a list of predictions, or the error if the image cannot be read
          or a sentence has no words.

        Raises:
          NonFiniteOutputError: the network's outputs are not finite.
        """
        devices = jax.local_devices()
        if batch_size is None:
            batch_size = 1 if devices[0].platform == "cpu" else 8
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size}: must be at least 1")
        return predict_stream(
            self._compile(batch_size, make_mesh(devices)),
            self._preprocessing,
            self.threshold,
            pairs,
            self.config.data.threads,
        )

    def encode(self, image: Picture) -> Encoded:
        """Reads and encodes an image for `find`.

        Raises:
          DataError: the image cannot be read.
        """
        photo = read(image, self._preprocessing)
        return Encoded(photo, self.programs.encode(photo.fitted[None]))

    def find(self, encoded: Encoded, phrase: str | Phrase) -> Prediction:
        """Predicts the mask of a sentence in an encoded image.

        Raises:
          DataError: the sentence has no words.
          NonFiniteOutputError: the network's outputs are not finite.
        """
        (phrase,) = parse_all([phrase])
        sentence = self._preprocessing.sentence(phrase.words) | {"image": np.int32(0)}
        outputs = self.programs.locate(encoded.features, {k: v[None] for k, v in sentence.items()})
        mask, heatmap, finite = jax.device_get(outputs)
        located = Located(mask[0], None if heatmap is None else heatmap[0], bool(finite[0]))
        return at_original_size(located, encoded.photo, phrase, self._preprocessing, self.threshold)

    @property
    def programs(self) -> Programs:
        """The programs for one image and one sentence; compiled at the first use."""
        return self._compile(1, one_device())

    def _compile(self, batch_size: int, mesh: Mesh) -> Programs:
        key = batch_size, mesh.size
        if key not in self._compiled:
            self._compiled[key] = compile_programs(
                self._experiment, self._state, mesh, batch_size, batch_size
            )
        return self._compiled[key]
