"""Writes a trained network as a folder that other programs can run."""

import hashlib
import importlib.util
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ml_collections import ConfigDict

from lts_jax.configs.fields import plain_config
from lts_jax.data import image_ops
from lts_jax.data.word_pieces import WordPieces
from lts_jax.distributed.mesh import one_device
from lts_jax.errors import ConfigError
from lts_jax.experiment.restore import Trained, restore
from lts_jax.export.card import write_card
from lts_jax.export.onnx_network import make_onnx
from lts_jax.export.stablehlo import make_stablehlo
from lts_jax.io.files import whole_folder, write_json
from lts_jax.io.json_files import mapping, read_json
from lts_jax.models.backbones import BACKBONES
from lts_jax.pretrained.backbone import save_tensors
from lts_jax.zoo import catalogue
from tfds_refcoco.records.text import APART, CLEANED

Format = Literal["stablehlo", "onnx", "safetensors", "hub"]
_PACKAGES: dict[Format, tuple[str, ...]] = {
    "stablehlo": ("flatbuffers",),
    "onnx": ("onnx",),
    "safetensors": (),
    "hub": (),
}
_PATHS = (
    *("dir", "raw", "train_images", "text_weights", "word_vectors", "backbone_weights"),
    *("start_from", "file", "workdir"),
)
_STANDALONE = Path(__file__).parent / "standalone"


def export_run(workdir: Path, kind: Format, out: Path, config: ConfigDict | None = None) -> None:
    """Exports a run's best checkpoint to a new folder.

    Args:
      workdir: of the run.
      kind: format of the export.
      out: the new folder.
      config: as for `restore`.

    Raises:
      ConfigError: the run has no checkpoint, the folder is not empty, or the format does not
        support the network.
    """
    # Resolves links and `.`.
    _check_new(out := out.resolve())
    _check_packages(kind)
    write_folder(restore(workdir, one_device(), config=config), kind, out, _scores(workdir))


def _check_new(out: Path) -> None:
    if out in (Path.cwd(), *Path.cwd().parents):
        raise ConfigError(
            f"--out={out} is or contains the current directory; set --out to a new folder"
        )
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out={out} is a file; set --out to a new folder")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(
            f"--out={out} is not empty; set --out to a new folder or move the old one away"
        )


def _check_packages(kind: Format) -> None:
    """Raises ConfigError if the format requires a package that is not installed."""
    for name in _PACKAGES[kind]:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"--format={kind} requires the package {name}; run pip install 'lts_jax[export]'"
            )


def _scores(workdir: Path) -> dict[str, Any]:
    """Reads the metrics of the evaluated splits of a run, by split."""
    scores = {}
    for path in sorted((workdir / "eval").glob("*/metrics.json")):
        scores[path.parent.name] = read_json(path, mapping, "evaluate again")
    return scores


def write_folder(
    trained: Trained, kind: Format, out: Path, scores: Mapping[str, Any] | None = None
) -> None:
    """Writes the folder atomically.

    Args:
      trained: the network.
      kind: format of the folder.
      out: the folder.
      scores: metrics by split, for config.json.

    Raises:
      ConfigError: the format does not support this network.
    """
    experiment = trained.experiment
    if experiment.config.data.hide_sentence:
        raise ConfigError(
            "data.hide_sentence=True: a language-blind network cannot be exported; export a run "
            "that was trained with data.hide_sentence=False"
        )
    with whole_folder(out) as temporary:
        if kind == "stablehlo":
            (temporary / "model.stablehlo").write_bytes(make_stablehlo(trained))
            np.savez(temporary / "weights.npz", **trained.arrays)  # type: ignore[arg-type]
        elif kind == "onnx":
            make_onnx(trained, temporary / "model.onnx")
        else:
            described = _write_weights(trained, kind, temporary, scores or {})
            if kind == "hub":
                card = write_card(trained, described)
                (temporary / catalogue.CARD).write_text(card, encoding="utf-8")
        vocabulary = experiment.vocabulary
        write_json(temporary / "vocabulary.json", list(vocabulary.words))
        if isinstance(vocabulary, WordPieces):
            text = vocabulary.to_json(experiment.config.data.max_words)
            (temporary / "tokenizer.json").write_text(text, encoding="utf-8")
        write_json(temporary / "preprocessing.json", preprocessing(trained))
        if kind in ("stablehlo", "onnx"):
            for name in ("loader.py", "pixels.py", "tokens.py"):
                shutil.copy(_STANDALONE / name, temporary / name)


def _write_weights(
    trained: Trained, kind: Format, folder: Path, scores: Mapping[str, Any]
) -> dict[str, Any]:
    """Writes the weights and config.json; returns the content of config.json.

    For the hub, matrices are rounded to float16, and folders are removed from paths. Scales, biases
    and running statistics remain float32: they are small, and a variance may underflow in float16.

    Raises:
      ConfigError: a weight overflows in float16.
    """
    arrays = trained.arrays
    config, weights = plain_config(trained.experiment.config), trained.weights
    if kind == "hub":
        arrays = {name: _halved(name, value) for name, value in arrays.items()}
        config, weights = _without_folders(config), _without_folders(weights)
    conventions = [trained.experiment.config.model.backbone_conventions]
    origin = {"step": trained.step, "weights": weights}
    path = folder / catalogue.WEIGHTS
    save_tensors(path, arrays, conventions, {"config": config, "source": origin})
    described = {
        "config": config,
        "step": trained.step,
        "data": trained.data,
        "weights": weights,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "about": "",
        "scores": dict(scores),
        "best_threshold": _best_threshold(trained),
    }
    write_json(folder / catalogue.CONFIG, described)
    return described


def _halved(name: str, value: np.ndarray) -> np.ndarray:
    if value.ndim < 2:
        return value
    with np.errstate(over="ignore"):
        half = value.astype(np.float16)
    if not np.isfinite(half).all():
        raise ConfigError(
            f"--format=hub: {name} has values that overflow in float16; use --format=safetensors"
        )
    return half


def _without_folders(value: Any, name: str = "") -> Any:
    """Replaces paths in a config or a record of weights by file names."""
    if isinstance(value, dict):
        return {key: _without_folders(item, key) for key, item in value.items()}
    if name in _PATHS and isinstance(value, str) and "://" not in value:
        return Path(value).name
    return value


def preprocessing(trained: Trained) -> dict[str, Any]:
    """Returns the preprocessing of images and sentences as plain data."""
    config = trained.experiment.config
    backbone = BACKBONES[config.model.backbone]
    mean, std, conventions = backbone.mean, backbone.std, {"epsilon": backbone.epsilon}
    if backbone.family == "darknet53":
        slope, epsilon, mean, std = trained.experiment.model.backbone_conventions
        conventions = {"negative_slope": slope, "epsilon": epsilon}
    vocabulary = trained.experiment.vocabulary
    return {
        "image": "RGB, uint8; scaling to [0, 1], mean and std are part of the network",
        "mean": mean,
        "std": std,
        "backbone": conventions,
        "image_size": config.data.image_size,
        "resize": config.data.resize,
        "interpolation": "bilinear, half-pixel centres, OpenCV's fixed point",
        "border": image_ops.GRAY,
        # Sentences: apply `replace`, `normalize`, lower case, `replace` and `normalize` again, put
        # blanks around matches of `apart`, and split at blanks.
        "lower_case": True,
        "normalize": "NFKC",
        "replace": CLEANED,
        "apart": APART,
        "split": "blanks, then tokenizer.json" if config.model.text == "bert" else "blanks",
        "max_words": config.data.max_words,
        "pad_id": vocabulary.pad,
        "unknown_id": vocabulary.unknown,
        "first_word_id": vocabulary.first_id,
        "threshold": trained.experiment.thresholds.used.value,
        "best_threshold": _best_threshold(trained),
        "trained": _origin(trained),
    }


def _best_threshold(trained: Trained) -> float | None:
    """Returns the best threshold on val; None if unknown."""
    best = trained.experiment.best_threshold
    return None if best is None else best.value


def _origin(trained: Trained) -> dict[str, Any]:
    return {"step": trained.step, "weights": trained.weights}
