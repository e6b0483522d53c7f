"""The command: `python -m lts_jax.main --config configs/refcoco.py`."""

import os
import sys
from pathlib import Path

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from lts_jax.cli import parse_flags
from lts_jax.errors import ConfigError, NonFiniteLossError
from lts_jax.train import evaluate, train_and_evaluate
from tfds_refcoco import DataError

FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config file, or <file>:<variant>.", lock_config=True
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; runs/<config file>[_<variant>] where not given."
)
_MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "eval"], "Train and evaluate, or evaluate the best checkpoint."
)
flags.mark_flag_as_required("config")


def main(argv: list[str]) -> None:
    """Runs what the flags say."""
    if len(argv) > 1:
        sys.exit(f"error: unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)  # the libraries tell much that users need not read
    config = _CONFIG.value
    file, _, variant = config_flags.get_config_filename(FLAGS["config"]).partition(":")
    name = Path(file).stem + (f"_{variant}" if variant not in ("", "lts") else "")
    workdir = Path(_WORKDIR.value or Path("runs") / name)
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "lts_jax" / "xla"))
    try:
        if _MODE.value == "train":
            train_and_evaluate(config, workdir)
        else:
            evaluate(config, workdir)
    except (ConfigError, DataError, NonFiniteLossError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the last checkpoint")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
