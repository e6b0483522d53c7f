"""Loads trained networks by name, from a folder, or from the Hugging Face Hub."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open

from lts_jax.config.flags import override_config, saved_config
from lts_jax.configs.default import FIELDS
from lts_jax.configs.fields import flatten
from lts_jax.errors import ConfigError
from lts_jax.experiment import arithmetic
from lts_jax.experiment.experiment import Experiment
from lts_jax.experiment.restore import Trained, overridden, restore
from lts_jax.experiment.thresholds import stored
from lts_jax.io.json_files import list_of, read_json, text
from lts_jax.pretrained.hub import find_file
from lts_jax.state.train_state import TrainState
from lts_jax.zoo import catalogue

_HUB = "hf://"
_OTHER_EXPORTS = ("model.stablehlo", "model.onnx")


def load_pretrained(reference: str | Path, mesh: Mesh, overrides: Sequence[str] = ()) -> Trained:
    """Loads a trained network for prediction.

    Args:
      reference: a name listed by `lts models`; the workdir of a run; a folder exported by `lts
        export` as hub or safetensors; or `hf://owner/name[@revision]`, a Hugging Face Hub
        repository with such a folder. With `HF_HUB_OFFLINE=1`, only the Hub's cache is used.
      mesh: the devices for the network.
      overrides: of its config, such as `--config.eval.threshold=0.4`.

    Raises:
      ConfigError: there is no such network, a file is missing or damaged, the Hub cannot be
        reached, or a setting of JAX is not supported.
    """
    arithmetic.check()
    folder = find_folder(reference)
    if (folder / "checkpoints").is_dir():
        config = overridden(folder, None, overrides) if overrides else None
        return restore(folder, mesh, config=config)
    return read_folder(folder, mesh, overrides)


def find_folder(reference: str | Path) -> Path:
    """Returns the folder of a network; downloads it if it is on the Hub.

    Raises:
      ConfigError: there is no such network.
    """
    name = str(reference)
    if name.startswith(_HUB):
        return _download(name)
    if isinstance(reference, str) and (shipped := catalogue.folder(reference)):
        return shipped
    folder = Path(reference)
    if not folder.is_dir():
        known = ", ".join(catalogue.names())
        raise ConfigError(
            f"--model={name} is neither a folder nor a network of `lts models` ({known}); for the "
            "Hugging Face Hub, use hf://owner/name"
        )
    return folder


def _download(reference: str) -> Path:
    """Downloads all files, from the commit of the first one."""
    repository = reference.partition("@")[0]
    path, record = find_file("--model", reference, (catalogue.CONFIG,))
    for name in catalogue.FILES[1:]:
        path, _ = find_file("--model", f"{repository}@{record['revision']}", (name,))
    return path.parent


def read_folder(folder: Path, mesh: Mesh, overrides: Sequence[str] = ()) -> Trained:
    """Loads a folder exported by `lts export` as hub or safetensors; see `load_pretrained`.

    Raises:
      ConfigError: a file is missing or damaged, or does not match the others.
    """
    if not (folder / catalogue.CONFIG).is_file():
        others = [name for name in _OTHER_EXPORTS if (folder / name).exists()]
        hint = f"; to run {others[0]}, use loader.py in this folder" if others else ""
        raise ConfigError(
            f"{folder} contains neither checkpoints nor {catalogue.CONFIG}; use the workdir of a "
            f"run or a folder exported with `lts export --format hub`{hint}"
        )
    described = catalogue.describe(folder)
    try:
        config = saved_config(_with_defaults(described["config"]))
    except ConfigError as error:
        raise ConfigError(f"{folder / catalogue.CONFIG}: config: {error}") from error
    if overrides:
        config = override_config(config, overrides)
    words = read_json(folder / catalogue.VOCABULARY, list_of(text), catalogue.FIX)
    if len(set(words)) < len(words):
        raise ConfigError(
            f"{folder / catalogue.VOCABULARY}: a word is listed more than once; {catalogue.FIX}"
        )
    value, chosen_on = described.get("best_threshold"), described["config"]["eval"]["best_split"]
    best = stored(config.eval.threshold, value, chosen_on, folder / catalogue.CONFIG)
    experiment = Experiment(config, mesh, words, best)
    arrays = _read_arrays(folder / catalogue.WEIGHTS, described["sha256"])
    state = _fill(experiment.abstract_network, arrays, folder / catalogue.WEIGHTS)
    return Trained(
        experiment,
        state,
        described["step"],
        described["config"],
        described["data"],
        described["weights"],
    )


def _with_defaults(saved: dict[str, Any]) -> dict[str, Any]:
    """Adds missing fields with their defaults, for configs saved by older versions.

    The default of a new field always reproduces the behaviour of older versions.
    """
    sections = {name: dict(value) for name, value in saved.items() if isinstance(value, dict)}
    flat = flatten(saved)
    for name, field in FIELDS.items():
        section, _, leaf = name.rpartition(".")
        if name not in flat and section in sections:
            sections[section][leaf] = field.default
    return saved | sections


def _read_arrays(path: Path, sha256: str) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            raise ConfigError(
                f"{path}: SHA-256 is {digest}, expected {sha256} from {catalogue.CONFIG}; "
                f"{catalogue.FIX}"
            )
        with safe_open(path, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); {catalogue.FIX}") from error
    except (SafetensorError, TypeError, ValueError) as error:
        raise ConfigError(f"{path}: damaged ({error}); {catalogue.FIX}") from error


def _fill(abstract: TrainState, arrays: dict[str, np.ndarray], path: Path) -> TrainState:
    """Creates the state from the arrays; float16 is converted to float32."""
    wanted: dict[str, Any] = {"params": abstract.params, "batch_stats": abstract.batch_stats}
    flat = flatten_dict(wanted, sep="/")
    for name in sorted(flat.keys() ^ arrays.keys()):
        what = "is missing" if name in flat else "is not an array of this network"
        raise ConfigError(f"{path}: {name} {what}; {catalogue.FIX}")
    restored = {}
    for name, place in flat.items():
        value = arrays[name]
        if value.shape != place.shape or value.dtype not in (np.float32, np.float16):
            raise ConfigError(
                f"{path}: {name}: {value.dtype} {list(value.shape)}, expected float32 or float16 "
                f"{list(place.shape)}; {catalogue.FIX}"
            )
        if not np.isfinite(value).all():
            raise ConfigError(f"{path}: {name} has values that are not finite; {catalogue.FIX}")
        restored[name] = jax.device_put(value.astype(place.dtype), place.sharding)
    variables = unflatten_dict(restored, sep="/")
    step = jax.device_put(np.int32(0), abstract.step.sharding)
    return TrainState(step, variables["params"], variables["batch_stats"], ())
