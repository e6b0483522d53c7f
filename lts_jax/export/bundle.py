"""Writes a trained network as a folder that others can run."""

import importlib.util
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
from ml_collections import ConfigDict

from lts_jax.data import image_ops
from lts_jax.data.word_pieces import WordPieces
from lts_jax.distributed.mesh import one_device
from lts_jax.errors import ConfigError
from lts_jax.experiment.restore import Trained, restore
from lts_jax.export.onnx_network import make_onnx
from lts_jax.export.stablehlo import make_stablehlo
from lts_jax.io.files import temporary_name, write_json
from lts_jax.models.backbones import BACKBONES
from lts_jax.pretrained.backbone import save_tensors
from tfds_refcoco.records.text import APART, CLEANED

Format = Literal["stablehlo", "onnx", "safetensors"]
_PACKAGES: dict[Format, tuple[str, ...]] = {
    "stablehlo": ("flatbuffers",),
    "onnx": ("onnx",),
    "safetensors": (),
}
_STANDALONE = Path(__file__).parent / "standalone"


def export_run(workdir: Path, kind: Format, out: Path, config: ConfigDict | None = None) -> None:
    """Exports a run's best checkpoint to a new folder.

    Args:
      workdir: of the run.
      kind: of the export.
      out: the folder.
      config: as for `restore`.

    Raises:
      ConfigError: the run has no checkpoint, the folder exists, or the format cannot hold it.
    """
    # A link, or `.`, has another name than its folder.
    _check_new(out := out.resolve())
    _check_packages(kind)
    write_folder(restore(workdir, one_device(), config=config), kind, out)


def _check_new(out: Path) -> None:
    if out in (Path.cwd(), *Path.cwd().parents):
        raise ConfigError(f"--out={out} is, or holds, the folder that you are in: name a new one")
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out={out} is a file: name a new folder")
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"--out={out} is not empty: name a new folder, or move it away")


def _check_packages(kind: Format) -> None:
    """Raises ConfigError where the format needs a package that is not installed."""
    for name in _PACKAGES[kind]:
        if importlib.util.find_spec(name) is None:
            raise ConfigError(
                f"--format={kind} needs the package {name}: pip install 'lts_jax[export]'"
            )


def write_folder(trained: Trained, kind: Format, out: Path) -> None:
    """Writes the whole folder or none of it.

    Raises:
      ConfigError: the format cannot hold this network.
    """
    experiment = trained.experiment
    if experiment.config.data.hide_sentence:
        raise ConfigError("a run with data.hide_sentence never saw a word: nothing to export")
    temporary = out.with_name(temporary_name(out.name))
    temporary.mkdir(parents=True)
    try:
        if kind == "stablehlo":
            (temporary / "model.stablehlo").write_bytes(make_stablehlo(trained))
            np.savez(temporary / "weights.npz", **trained.arrays)  # type: ignore[arg-type]
        elif kind == "onnx":
            make_onnx(trained, temporary / "model.onnx")
        else:
            metadata = {"config": experiment.config.to_dict(), "source": _origin(trained)}
            conventions = [experiment.config.model.backbone_conventions]
            save_tensors(temporary / "model.safetensors", trained.arrays, conventions, metadata)
        vocabulary = experiment.vocabulary
        write_json(temporary / "vocabulary.json", list(vocabulary.words))
        if isinstance(vocabulary, WordPieces):
            text = vocabulary.to_json(experiment.config.data.max_words)
            (temporary / "tokenizer.json").write_text(text, encoding="utf-8")
        write_json(temporary / "preprocessing.json", preprocessing(trained))
        if kind != "safetensors":
            for name in ("loader.py", "pixels.py", "tokens.py"):
                shutil.copy(_STANDALONE / name, temporary / name)
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def preprocessing(trained: Trained) -> dict[str, Any]:
    """What turns an image and a sentence into the network's inputs, as plain data."""
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
        # A sentence: `replace`, `normalize`, lower case, `replace` and `normalize` again, blanks
        # around what matches `apart`, and split at blanks.
        "lower_case": True,
        "normalize": "NFKC",
        "replace": CLEANED,
        "apart": APART,
        "split": "blanks" if config.model.text == "gru" else "blanks, then tokenizer.json",
        "max_words": config.data.max_words,
        "pad_id": vocabulary.pad,
        "unknown_id": vocabulary.unknown,
        "first_word_id": vocabulary.first_id,
        "threshold": trained.experiment.thresholds.used.value,
        "best_threshold": trained.experiment.best_threshold,  # on val; null if unknown
        "trained": _origin(trained),
    }


def _origin(trained: Trained) -> dict[str, Any]:
    return {"step": trained.step, "weights": trained.weights}
