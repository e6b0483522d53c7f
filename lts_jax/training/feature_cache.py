"""Cache of a frozen backbone's features, computed once per image of the training split."""

import hashlib
import json
import logging
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict
from numpy.typing import NDArray

from lts_jax.data.features import FeatureFiles, write_features
from lts_jax.distributed.mesh import local_copy, one_device
from lts_jax.distributed.processes import one_after_another
from lts_jax.experiment.experiment import Experiment
from lts_jax.models import Network
from lts_jax.state.train_state import TrainState, variables_of
from lts_jax.steps.inference import to_float

logger = logging.getLogger(__name__)

_BATCH = 8  # images per encoder call


class FeatureCache:
    """Replaces the images when training with a frozen backbone.

    The features are stored in `<data.dir>/features`, in one folder per backbone, weights, image
    size and set of images, so that other runs can reuse them. Call `fill` before reading.

    Args:
      experiment: an experiment with `train.cache_features`.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        records, first = np.unique(experiment.train_split.index.record, return_index=True)
        self._records = records
        self._row_of = {int(record): row for row, record in enumerate(records)}
        self._first = first  # first row of the index for each record
        self._files: FeatureFiles | None = None

    def __call__(self, records: Sequence[int]) -> tuple[NDArray[np.floating], ...]:
        """Returns the features of K records of the training split, `[K, h, w, C]` per tap."""
        assert self._files is not None, "fill the cache before the first batch"
        return self._files.read([self._row_of[record] for record in records])

    def fill(self, state: TrainState) -> Path:
        """Computes the features with the backbone of a state, unless they are cached.

        Returns:
          The folder of the features.

        Raises:
          ConfigError: the features cannot be read, or are not finite.
          OSError: the features cannot be written.
        """
        experiment = self._experiment
        local = one_device()
        network = local_copy(state.network(), experiment.mesh, local)
        folder = Path(experiment.config.data.dir) / "features" / self._key(network)
        one_after_another(lambda: self._write_if_missing(folder, network))
        self._files = FeatureFiles(folder)
        return folder

    def _write_if_missing(self, folder: Path, network: TrainState) -> None:
        if folder.exists():
            logger.info("features of %d images: %s", len(self._records), folder)
            return
        start = time.monotonic()
        dtype = self._experiment.config.train.cache_features
        write_features(folder, len(self._records), self._encoded(network), dtype)
        size = sum(path.stat().st_size for path in folder.iterdir())
        logger.info(
            "features of %d images: %.0f s, %.2f GB, in %s",
            *(len(self._records), time.monotonic() - start, size / 1e9, folder),
        )

    def _encoded(self, network: TrainState) -> Iterator[Sequence[NDArray[np.floating]]]:
        experiment = self._experiment
        encode = jax.jit(partial(_encode, experiment.model))

        def load(record: int) -> NDArray[np.uint8]:
            return experiment.preprocessing.image(experiment.train_split.record(record))[0]

        records = self._records.tolist()
        with ThreadPoolExecutor(max(1, experiment.config.data.threads)) as threads:
            reading = threads.map(load, records[:_BATCH])
            for following in range(_BATCH, len(records) + _BATCH, _BATCH):
                images = list(reading)
                reading = threads.map(load, records[following : following + _BATCH])
                # The last batch is padded, so that it needs no new compilation.
                images += images[-1:] * (_BATCH - len(images))
                yield [np.asarray(tap, np.float32) for tap in encode(network, np.stack(images))]

    def _key(self, network: TrainState) -> str:
        """Returns a cache key of everything that the features depend on."""
        config, model = self._experiment.config, self._experiment.model
        digest = hashlib.sha256()
        flat = flatten_dict(variables_of(network), sep="/")
        for name, value in sorted(flat.items()):
            if name.split("/")[1] == "backbone":
                array = np.asarray(value)
                digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
                digest.update(array.tobytes())
        pictures = self._experiment.train_split.index.picture[self._first]
        described: dict[str, Any] = {
            "pictures": hashlib.sha256("\n".join(map(str, pictures)).encode()).hexdigest(),
            "image_size": config.data.image_size,
            "resize": config.data.resize,
            "backbone": [model.image_encoder, model.backbone_width, *model.backbone_stages],
            "neck": model.neck,
            "conventions": model.backbone_conventions,
            "dtype": config.model.dtype,
            "stored": config.train.cache_features,
            "jax": jax.__version__,
        }
        digest.update(json.dumps(described, sort_keys=True, default=str).encode())
        return digest.hexdigest()[:24]


def _encode(model: Network, state: TrainState, images: jax.Array) -> Any:
    """Encodes uint8 images `[K, S, S, 3]` as in a training step with a frozen backbone."""

    def run(model: Network) -> Any:
        return model.encode_image(to_float(images), train=False)

    return nn.apply(run, model)(variables_of(state))
