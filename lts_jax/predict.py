"""Finds in any picture what any sentence says.

    python -m lts_jax.main --mode=predict --workdir runs/refcoco --image photo.jpg \
      --text "man on the left" --text "red cup" --out found
"""

import dataclasses
import functools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image
from pycocotools import mask as coco_mask

from lts_jax import checks, experiment, sharding, visualize
from lts_jax.checkpointing import open_checkpoints
from lts_jax.data import preprocess
from lts_jax.data.photos import read_photo
from lts_jax.data.tokenizer import UNKNOWN
from lts_jax.errors import ConfigError
from lts_jax.models import PreparedImage
from lts_jax.resuming import read_chosen
from lts_jax.steps import TrainState, make_encode_step, refer
from lts_jax.writers import write_json, write_picture
from tfds_refcoco import DataError, masks
from tfds_refcoco.text import tokenize

Picture = str | Path | bytes | Image.Image | np.ndarray


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What was found for a sentence, at the picture's size as a viewer shows it.

    Attributes:
      text: the sentence.
      mask: bool `[h, w]`.
      probability: float32 `[h, w]`; the mask is where it exceeds the config's threshold.
      heatmap: float32 `[h, w]`, probabilities of the last round of the locator; None without one.
      unknown_words: those that training never saw.
      unread_words: what lies behind the words that the network reads at most.
    """

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


class Encoded(NamedTuple):
    """A picture that sentences can be asked about."""

    image: np.ndarray  # uint8 [h, w, 3]
    placement: preprocess.Placement
    features: PreparedImage


class Predictor:
    """A trained network.

        predictor = lts_jax.Predictor("runs/refcoco")
        left, cup = predictor("photo.jpg", ["man on the left", "red cup"])

    Args:
      workdir: of the run.
      step: of the checkpoint; where None the best one that can be read.
      config: None for the checkpoint's own; another may differ from it in all but the network.

    Raises:
      ConfigError: the workdir holds no such checkpoint.
    """

    def __init__(
        self, workdir: str | Path, step: int | None = None, config: ConfigDict | None = None
    ) -> None:
        mesh = sharding.make_mesh(jax.local_devices()[:1])
        if config is not None:
            checks.check_config(config)
        with open_checkpoints(Path(workdir)) as checkpoints:
            _, trained = read_chosen(
                checkpoints,
                step,
                lambda s: experiment.restore(config, checkpoints, s, Path(workdir), mesh),
            )
        self.config = config = trained.given
        self._state = trained.state
        self._preprocessing = experiment.make_preprocessing(config, trained.vocabulary)
        encode = make_encode_step(trained.model)

        def locate(
            state: TrainState, features: PreparedImage, sentence: dict[str, jax.Array]
        ) -> tuple[jax.Array, jax.Array | None]:
            batch = {k: v[None] for k, v in sentence.items()} | {"image": jnp.zeros(1, jnp.int32)}
            outputs = refer(trained.model, state, features, batch)
            last = None if outputs.heatmap is None else jax.nn.sigmoid(outputs.heatmap[0, -1])
            return jax.nn.sigmoid(outputs.mask[0]), last

        # Both at once: most of what the first prediction waits for is the compiler.
        size = config.data.image_size
        image = jax.ShapeDtypeStruct((1, size, size, 3), jnp.uint8)
        features = jax.eval_shape(encode, self._state, image)
        sentence = self._preprocessing.sentence("")
        with ThreadPoolExecutor() as threads:
            both = [
                threads.submit(lambda f, *args: jax.jit(f).lower(self._state, *args).compile(), *x)
                for x in ((encode, image), (locate, features, sentence))
            ]
        self._encode, self._locate = (compiled.result() for compiled in both)

    def __call__(self, image: Picture, texts: str | Sequence[str]) -> list[Prediction]:
        """Finds what each sentence says; the picture is read and encoded once.

        Args:
          image: see `lts_jax.data.photos.read_photo`.
          texts: a sentence or several.

        Returns:
          A prediction for each.

        Raises:
          DataError: the picture cannot be read, or a sentence has no words.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        for text in texts:
            check_text(text)
        encoded = self.encode(image)
        return [self.find(encoded, text) for text in texts]

    def encode(self, image: Picture) -> Encoded:
        """Reads and encodes a picture for `find`."""
        pixels = read_photo(image)
        p = self._preprocessing
        h, w = pixels.shape[:2]
        placement = preprocess.place(h, w, p.image_size, p.resize)
        fitted = preprocess.fit_image(pixels, placement, p.image_size)
        return Encoded(pixels, placement, self._encode(self._state, fitted[None]))

    def find(self, encoded: Encoded, text: str) -> Prediction:
        """Finds what a sentence says in an encoded picture."""
        check_text(text)
        words, read = tokenize(text), self._preprocessing.max_words
        sentence = self._preprocessing.sentence(text)
        grid, heatmap = self._locate(self._state, encoded.features, sentence)
        probability = self._at_original_size(grid, encoded)
        known = self._preprocessing.vocabulary.encode(" ".join(words), max(1, len(words)))[0]
        return Prediction(
            text=text,
            mask=probability > self.config.eval.threshold,
            probability=probability,
            heatmap=None if heatmap is None else self._at_original_size(heatmap, encoded),
            unknown_words=[w for w, i in zip(words[:read], known, strict=False) if i == UNKNOWN],
            unread_words=words[read:],
        )

    def _at_original_size(self, grid: jax.Array, encoded: Encoded) -> np.ndarray:
        """By the host: a picture of another size compiles nothing, and is not padded."""
        h, w = encoded.image.shape[:2]
        size = self._preprocessing.image_size
        return preprocess.map_to_image(np.asarray(grid), encoded.placement, size, h, w)


def check_text(text: str, where: str = "") -> None:
    """Raises DataError where there is nothing to find; `where` says where it is written."""
    if not tokenize(text):
        raise DataError(f"{where and where + ': '}text {text!r}: no words; say what to find.")


class Job(NamedTuple):
    """A picture and what to find in it."""

    image: Path
    texts: list[str]


def read_jobs(image: str | None, texts: Sequence[str], jsonl: str | None) -> list[Job]:
    """Makes jobs of the command's flags; lines of one picture in a row share its encoding.

    Raises:
      ConfigError: the flags do not go together.
      DataError: a line of the file is bad; the message names it.
    """
    if (image is None) == (jsonl is None):
        raise ConfigError("give either --image with --text, or --jsonl")
    if image is not None:
        if not texts:
            raise ConfigError("--text: say what to find in --image")
        for text in texts:
            check_text(text)
        jobs = [Job(Path(image), list(texts))]
    else:
        assert jsonl is not None
        if texts:
            raise ConfigError("--text goes with --image; --jsonl holds its own")
        jobs = []
        for where, file, text in _read_lines(Path(jsonl)):
            if not file.is_file():
                raise DataError(f"{where}: image: no file {file}.")
            if not jobs or jobs[-1].image != file:
                jobs.append(Job(file, []))
            jobs[-1].texts.append(text)
        if not jobs:
            raise DataError(f"{jsonl}: no lines.")
    return jobs


def write_predictions(predictor: Predictor, jobs: Sequence[Job], out_dir: Path) -> None:
    """Writes for each sentence a mask, a heatmap and an overlay, and predictions.json for all.

    The pictures are `<number>_<image>_mask.png`, 0 and 255 at the image's size; `_heatmap.png`,
    8-bit probabilities; and `_overlay.png`. Without a locator there is no heatmap. Numbers count
    the sentences from 0.

    Raises:
      DataError: a picture cannot be read; what was found before is written.
    """
    entries: list[dict[str, Any]] = []
    try:
        for job in jobs:
            encoded = predictor.encode(job.image)
            for text in job.texts:
                found = predictor.find(encoded, text)
                entries.append(_write(found, encoded.image, job.image, len(entries), out_dir))
    finally:
        if entries:
            write_json(out_dir / "predictions.json", entries)
            print(f"wrote {out_dir}: {len(entries)} sentences", flush=True)


def _write(
    found: Prediction, image: np.ndarray, file: Path, number: int, out_dir: Path
) -> dict[str, Any]:
    stem = f"{number:04}_{file.stem}"
    pictures = {
        "mask": found.mask.astype(np.uint8) * 255,
        "overlay": visualize.overlay_mask(image, found.mask, visualize.RED),
    }
    if found.heatmap is not None:
        pictures["heatmap"] = np.round(found.heatmap * 255).astype(np.uint8)
    for name, pixels in pictures.items():
        write_picture(out_dir / f"{stem}_{name}.png", Image.fromarray(pixels))
    share = found.mask.mean()
    print(f"{file.name}: {found.text!r}: {share:.1%} of the image, box {found.box}", flush=True)
    if found.unknown_words:
        print(f"  words that training never saw: {', '.join(found.unknown_words)}", flush=True)
    if found.unread_words:
        print(f"  the last {len(found.unread_words)} words were not read", flush=True)
    return {
        "image": str(file),
        "text": found.text,
        "segmentation": found.rle,
        "bbox": found.box,
        "unknown_words": found.unknown_words,
        "unread_words": found.unread_words,
        "files": {name: f"{stem}_{name}.png" for name in pictures},
    }


def _read_lines(path: Path) -> Iterator[tuple[str, Path, str]]:
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    # Not splitlines, which also splits at U+2028 within a text.
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            entry = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}: no JSON ({error}).") from error
        for field in ("image", "text"):
            if not isinstance(entry, dict) or not isinstance(entry.get(field), str):
                raise DataError(f'{where}: {field}: expected {{"image": FILE, "text": TEXT}}.')
        check_text(entry["text"], where)
        yield where, path.parent / entry["image"], entry["text"]
