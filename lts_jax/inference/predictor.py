"""Finds in any picture what any sentence says."""

import dataclasses
import functools
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from pycocotools import mask as coco_mask

from lts_jax.data import image_ops
from lts_jax.data.image_files import read_photo
from lts_jax.distributed.mesh import one_device
from lts_jax.errors import NonFiniteOutputError
from lts_jax.experiment.pretrained import load_pretrained
from lts_jax.experiment.restore import Trained, restore
from lts_jax.io import drawing
from lts_jax.models import PreparedImage
from lts_jax.state.train_state import TrainState
from lts_jax.steps.inference import encode, refer
from tfds_refcoco import DataError, masks
from tfds_refcoco.records.text import tokenize

Picture = str | Path | bytes | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What was found for a sentence, at the picture's size as a viewer shows it.

    In a notebook it shows itself: the mask outlined on the picture.

    Attributes:
      image: uint8 `[h, w, 3]`, the picture.
      text: the sentence.
      mask: bool `[h, w]`.
      probability: float32 `[h, w]`; the mask is where it exceeds the threshold.
      heatmap: float32 `[h, w]`, probabilities of the last round of the locator; None without one.
      unknown_words: those that training never saw.
      unread_words: what lies behind the words that the network reads at most.
    """

    image: np.ndarray
    text: str
    mask: np.ndarray
    probability: np.ndarray
    heatmap: np.ndarray | None
    unknown_words: list[str]
    unread_words: list[str]

    @functools.cached_property
    def rle(self) -> dict[str, Any]:
        """The mask as COCO's compressed RLE."""
        return {"size": list(self.mask.shape), "counts": masks.encode(self.mask).decode("ascii")}

    @property
    def box(self) -> list[int] | None:
        """Left, top, width and height of the mask in pixels, None where it is empty."""
        box = coco_mask.toBbox(self.rle | {"counts": self.rle["counts"].encode()})
        return [int(x) for x in box] if self.mask.any() else None

    def overlay(self) -> Image.Image:
        """Draws the mask: outlined on the picture, which is faded around it."""
        return Image.fromarray(drawing.overlay_mask(self.image, self.mask, drawing.PREDICTION))

    def _repr_png_(self) -> bytes:
        """What Jupyter shows."""
        out = io.BytesIO()
        self.overlay().save(out, "png")
        return out.getvalue()


class Encoded(NamedTuple):
    """A picture that sentences can be asked about."""

    image: np.ndarray  # uint8 [h, w, 3]
    placement: image_ops.Placement
    features: PreparedImage


class Phrase(NamedTuple):
    """What to find: a sentence with its words."""

    text: str
    words: list[str]


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
        experiment = trained.experiment
        self.config = experiment.config
        self.threshold = experiment.thresholds.used.value
        self._state = trained.state
        self._preprocessing = experiment.preprocessing
        encode_image = partial(encode, experiment.model)

        def locate(
            state: TrainState, features: PreparedImage, sentence: dict[str, jax.Array]
        ) -> tuple[jax.Array, jax.Array | None, jax.Array]:
            batch = {k: v[None] for k, v in sentence.items()} | {"image": jnp.zeros(1, jnp.int32)}
            outputs = refer(experiment.model, state, features, batch)
            last = None if outputs.heatmap is None else jax.nn.sigmoid(outputs.heatmap[0, -1])
            return jax.nn.sigmoid(outputs.mask[0]), last, outputs.finite()[0]

        # Both at once: most of what the first prediction waits for is the compiler.
        size = self.config.data.image_size
        image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
        features = jax.eval_shape(encode_image, self._state, image)
        sentence = self._preprocessing.sentence([])
        with ThreadPoolExecutor() as threads:
            both = [
                threads.submit(lambda f, *args: jax.jit(f).lower(self._state, *args).compile(), *x)
                for x in ((encode_image, image), (locate, features, sentence))
            ]
        self._encode, self._locate = (compiled.result() for compiled in both)

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

    def __call__(self, image: Picture, texts: str | Sequence[str]) -> list[Prediction]:
        """Finds what each sentence says; the picture is read and encoded once.

        Args:
          image: see `lts_jax.data.image_files.read_photo`.
          texts: a sentence or several.

        Returns:
          A prediction for each.

        Raises:
          DataError: the picture cannot be read, or a sentence has no words.
        """
        phrases = [parse(text) for text in ([texts] if isinstance(texts, str) else texts)]
        encoded = self.encode(image)
        return [self.find(encoded, phrase) for phrase in phrases]

    def encode(self, image: Picture) -> Encoded:
        """Reads and encodes a picture for `find`."""
        pixels = read_photo(image)
        p = self._preprocessing
        h, w = pixels.shape[:2]
        placement = image_ops.place(h, w, p.image_size, p.resize)
        fitted = image_ops.fit_image(pixels, placement, p.image_size)
        return Encoded(pixels, placement, self._encode(self._state, fitted[None]))

    def find(self, encoded: Encoded, phrase: str | Phrase) -> Prediction:
        """Finds what a sentence says in an encoded picture.

        Raises:
          DataError: the sentence has no words.
          NonFiniteOutputError: the network's outputs are not finite.
        """
        text, words = parse(phrase) if isinstance(phrase, str) else phrase
        known = self._preprocessing.vocabulary
        read = known.count_read(words, self._preprocessing.max_words)
        sentence = self._preprocessing.sentence(words)
        grid, heatmap, finite = self._locate(self._state, encoded.features, sentence)
        if not finite:
            raise NonFiniteOutputError(
                f"text {text!r}: the network's outputs are not finite: the training has diverged, "
                "or the weights are damaged; take another --checkpoint"
            )
        probability = self._at_original_size(grid, encoded)
        return Prediction(
            image=encoded.image,
            text=text,
            mask=probability > self.threshold,
            probability=probability,
            heatmap=None if heatmap is None else self._at_original_size(heatmap, encoded),
            unknown_words=[word for word in words[:read] if word not in known],
            unread_words=words[read:],
        )

    def _at_original_size(self, grid: jax.Array, encoded: Encoded) -> np.ndarray:
        """By the host: a picture of another size compiles nothing, and is not padded."""
        h, w = encoded.image.shape[:2]
        size = self._preprocessing.image_size
        return image_ops.map_to_image(np.asarray(grid), encoded.placement, size, h, w)


def parse(text: str, where: str = "") -> Phrase:
    """Tokenizes a sentence.

    Args:
      text: the sentence.
      where: it is written, for the error.

    Raises:
      DataError: it has no words.
    """
    words = tokenize(text)
    if not words:
        raise DataError(f"{where and where + ': '}text {text!r}: no words; say what to find.")
    return Phrase(text, words)
