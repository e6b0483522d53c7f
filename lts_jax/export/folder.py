"""Writes a trained network as a folder that others can run."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export
from ml_collections import ConfigDict

from lts_jax.data import preprocess
from lts_jax.data.tokenizer import PAD, UNKNOWN, Vocabulary
from lts_jax.errors import ConfigError
from lts_jax.experiment import config_of, make_model
from lts_jax.export.onnx_graph import make_onnx
from lts_jax.first_weights import read_best
from lts_jax.models import LTS
from lts_jax.pretrained.backbone import save_tensors
from lts_jax.steps import to_float
from lts_jax.writers import write_json
from tfds_refcoco.text import CLEANED

Format = Literal["stablehlo", "onnx", "safetensors"]
FORMATS = ("stablehlo", "onnx", "safetensors")
PLATFORMS = ("cpu", "cuda", "tpu")
_HERE = Path(__file__).parent


class Trained(NamedTuple):
    """A trained network, apart from its run.

    Attributes:
      model: the network.
      weights: its arrays by path, `params/…` and `batch_stats/…`.
      config: of the run.
      words: of the vocabulary.
      origin: `step`, and the sources of the run's first `weights`.
    """

    model: LTS
    weights: dict[str, np.ndarray]
    config: ConfigDict
    words: list[str]
    origin: dict[str, Any]


def read_run(workdir: Path) -> Trained:
    """Reads a run's best checkpoint.

    Raises:
      ConfigError: there is none.
    """
    step, saved, weights = read_best(workdir)
    config = config_of(saved["config"])
    model = make_model(config, Vocabulary(saved["vocabulary"]))
    origin = {"step": step, "weights": saved["weights"]}
    return Trained(model, dict(weights), config, saved["vocabulary"], origin)


def predictor(model: LTS) -> Callable[[Any, Any], dict[str, jax.Array]]:
    """The exported function.

    It takes the weights by path, and `image` uint8 `[B, S, S, 3]`, `tokens` int32 `[B, T]` and
    `length` int32 `[B]` by name. It returns probabilities, float32: `mask` `[B, G, G]`, and, with a
    locator, `heatmap` `[B, rounds, S/8, S/8]`.
    """

    def predict(weights: dict[str, jax.Array], inputs: dict[str, jax.Array]) -> dict[str, Any]:
        outputs: Any = model.apply(
            unflatten_dict(weights, sep="/"),
            to_float(inputs["image"]),
            inputs["tokens"],
            inputs["length"],
            train=False,
        )
        result = {"mask": jax.nn.sigmoid(outputs.mask)}
        if outputs.heatmap is not None:
            result["heatmap"] = jax.nn.sigmoid(outputs.heatmap)
        return result

    return predict


def export_run(workdir: Path, kind: Format, out: Path) -> None:
    """Exports a run's best checkpoint to a new folder.

    Raises:
      ConfigError: the run has no checkpoint, the folder exists, or the format cannot hold it.
    """
    # A link, or `.`, has another name than its folder.
    _check_new(out := out.resolve())
    write_folder(read_run(workdir), kind, out)


def _check_new(out: Path) -> None:
    if out in (Path.cwd(), *Path.cwd().parents):
        raise ConfigError(f"--out={out} is, or holds, the folder that you are in: name a new one")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out={out} is a file: name a new folder")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"--out={out} is not empty: name a new folder, or move it away")


def write_folder(trained: Trained, kind: Format, out: Path) -> None:
    """Writes the whole folder or none of it.

    Raises:
      ConfigError: the format cannot hold this network.
    """
    if trained.config.data.hide_sentence:
        raise ConfigError("a run with data.hide_sentence never saw a word: nothing to export")
    temporary = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        if kind == "stablehlo":
            (temporary / "model.stablehlo").write_bytes(_stablehlo(trained))
            np.savez(temporary / "weights.npz", **trained.weights)  # type: ignore[arg-type]
        elif kind == "onnx":
            make_onnx(trained, temporary / "model.onnx")
        else:
            metadata = {"config": json.dumps(trained.config.to_dict())}
            metadata["source"] = json.dumps(trained.origin)
            save_tensors(temporary / "model.safetensors", trained.weights, metadata)
        write_json(temporary / "vocabulary.json", list(trained.words))
        write_json(temporary / "preprocessing.json", preprocessing(trained))
        if kind != "safetensors":
            for name in ("loader.py", "pixels.py"):
                shutil.copy(_HERE / name, temporary / name)
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def preprocessing(trained: Trained) -> dict[str, Any]:
    """What turns an image and a sentence into the network's inputs, as plain data."""
    config = trained.config
    return {
        "image": "RGB, uint8; scaling to [0, 1] is part of the network",
        "image_size": config.data.image_size,
        "resize": config.data.resize,
        "interpolation": "bilinear, half-pixel centres, OpenCV's fixed point",
        "border": preprocess.GRAY,
        "lower_case": True,
        "replace": CLEANED,
        "split": "blanks",
        "max_words": config.data.max_words,
        "pad_id": PAD,
        "unknown_id": UNKNOWN,
        "first_word_id": 2,
        "threshold": config.eval.threshold,
        "trained": trained.origin,
    }


def _stablehlo(trained: Trained) -> bytes:
    size, words = trained.config.data.image_size, trained.config.data.max_words
    (b,) = export.symbolic_shape("b")
    inputs = {
        "image": jax.ShapeDtypeStruct((b, size, size, 3), jnp.uint8),
        "tokens": jax.ShapeDtypeStruct((b, words), jnp.int32),
        "length": jax.ShapeDtypeStruct((b,), jnp.int32),
    }
    weights = {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in trained.weights.items()}
    function = jax.jit(predictor(trained.model))
    exported = export.export(function, platforms=PLATFORMS)(weights, inputs)
    return bytes(exported.serialize())


def flat_weights(variables: Any) -> dict[str, np.ndarray]:
    """Arrays by path of `{"params": …, "batch_stats": …}`."""
    return {k: np.asarray(v) for k, v in flatten_dict(variables, sep="/").items()}
