"""Finds in any picture what any sentence says."""

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
    """A picture that sentences can be asked about."""

    photo: Photo
    features: PreparedImage


class Predictor:
    """A trained network.

        predictor = lts_jax.Predictor.from_pretrained("photos")  # or Predictor("runs/refcoco")
        left, cup = predictor("photo.jpg", ["man on the left", "red cup"])

    Args:
      workdir: of the run; or the network, already read.
      step: of the checkpoint; where None the best one that can be read.
      config: None for the checkpoint's own; another may differ from it in all but the network.

    Attributes:
      config: that is used.
      threshold: pixels of a greater probability are in a mask; of `config.eval.threshold`.

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
        """Reads a network by its name in `lts models`, from a folder, or from the hub.

        Args:
          reference: see `lts_jax.experiment.pretrained.load_pretrained`.
          overrides: of its config, such as `--config.eval.threshold=0.4`.

        Raises:
          ConfigError: there is no such network, or a file of it is missing or damaged.
        """
        return cls(load_pretrained(reference, one_device(), overrides))

    def __call__(self, image: Picture, texts: str | Sequence[str | Phrase]) -> list[Prediction]:
        """Finds what each sentence says; the picture is read and encoded once.

        Args:
          image: see `lts_jax.data.image_files.read_photo`.
          texts: a sentence or several.

        Returns:
          A prediction for each.

        Raises:
          DataError: the picture cannot be read, or a sentence has no words.
          NonFiniteOutputError: the network's outputs are not finite.
        """
        phrases = parse_all(texts)
        encoded = self.encode(image)
        return [self.find(encoded, phrase) for phrase in phrases]

    def map(
        self, pairs: Iterable[Pair], batch_size: int | None = None
    ) -> Iterator[list[Prediction] | DataError]:
        """Finds the sentences of many pictures: read ahead in threads, in batches, on all devices.

            for found in predictor.map((file, ["man on the left", "red cup"]) for file in files):
                if isinstance(found, tfds_refcoco.DataError):
                    print(found)  # the others go on
                    continue
                left, cup = found

        Predictions equal those of one call for each picture, up to rounding. A batch size compiles
        once. Pictures of three groups of `batch_size` for each device are in memory, and of one
        for each of `config.data.threads`.

        Args:
          pairs: a picture, and a sentence or several.
          batch_size: pictures that a device encodes, and sentences that it reads, together; None:
            1 on CPUs, where a larger batch gains nothing, else 8.

        Yields:
          For each pair, in order, a prediction for each sentence; or the error, if the picture
          cannot be read or a sentence has no words.

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
        """Reads and encodes a picture for `find`.

        Raises:
          DataError: the picture cannot be read.
        """
        photo = read(image, self._preprocessing)
        return Encoded(photo, self.programs.encode(photo.fitted[None]))

    def find(self, encoded: Encoded, phrase: str | Phrase) -> Prediction:
        """Finds what a sentence says in an encoded picture.

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
        """Those of one picture and one sentence; compiled when they are first needed."""
        return self._compile(1, one_device())

    def _compile(self, batch_size: int, mesh: Mesh) -> Programs:
        key = batch_size, mesh.size
        if key not in self._compiled:
            self._compiled[key] = compile_programs(
                self._experiment, self._state, mesh, batch_size, batch_size
            )
        return self._compiled[key]
