"""The command: `python -m lts_jax.main --config configs/refcoco.py`."""

import os
import signal
import sys
from pathlib import Path

if __name__ == "__main__":  # the imports take seconds, in which a machine may be taken away too
    signal.signal(
        signal.SIGTERM, lambda *_: os._exit(not os.write(1, b"stopped before it began\n"))
    )

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from lts_jax import predict
from lts_jax.checkpointing import split_path
from lts_jax.cli import parse_flags, split_lists
from lts_jax.errors import ConfigError, NonFiniteLossError
from lts_jax.predict import Predictor
from lts_jax.sharding import join_found_processes, join_processes
from lts_jax.stopping import Stop, Stopped
from lts_jax.train import evaluate, train_and_evaluate
from tfds_refcoco import DataError

FLAGS = flags.FLAGS
_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file, or <file>:<variant>. To evaluate and predict, the checkpoint's where not given.",
    lock_config=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run; runs/<config file>[_<variant>] where not given."
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "To evaluate and predict with: <workdir>/checkpoints/<step>, not the best."
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "eval", "predict"],
    "Train and evaluate; evaluate a checkpoint; or find in --image what --text says.",
)
_IMAGE = flags.DEFINE_string("image", None, "predict: the image file.")
_TEXT = flags.DEFINE_multi_string("text", [], "predict: what to find; may be given several times.")
_JSONL = flags.DEFINE_string(
    "jsonl",
    None,
    'predict: a file with lines {"image": FILE, "text": TEXT}, the files relative to it.',
)
_OUT = flags.DEFINE_string("out", None, "predict: folder of the results.")
_DISTRIBUTED = flags.DEFINE_enum(
    "distributed",
    "off",
    ["off", "auto"],
    "auto: one of several processes, as TPU VMs, SLURM, Open MPI or JAX_COORDINATOR_ADDRESS, "
    "JAX_NUM_PROCESSES and JAX_PROCESS_ID say.",
)
_COORDINATOR = flags.DEFINE_string(
    "coordinator", None, "Train or evaluate on several processes: host:port of the first one."
)
_PROCESSES = flags.DEFINE_integer("num_processes", 1, "With --coordinator: how many processes.")
_PROCESS = flags.DEFINE_integer("process_id", 0, "With --coordinator: which this is, from 0.")


def main(argv: list[str]) -> None:
    """Runs what the flags say."""
    if len(argv) > 1:
        sys.exit(f"error: unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)  # the libraries tell much that users need not read
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        jax.config.update("jax_compilation_cache_dir", str(cache / "lts_jax" / "xla"))
    # Else SIGTERM would never reach us where several processes are joined.
    jax.config.update("jax_enable_preemption_service", False)
    stop = Stop()
    if _MODE.value == "train":
        stop.listen()
    else:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        run(_MODE.value, stop)
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on", flush=True)
        sys.exit(stop.exit_status)
    except (ConfigError, DataError, NonFiniteLossError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped")


def run(mode: str, stop: Stop) -> None:
    """Runs one of the modes."""
    workdir, step = _run_folder()
    config = _CONFIG.value and split_lists(_CONFIG.value)
    if mode != "predict" and (_IMAGE.value or _TEXT.value or _JSONL.value or _OUT.value):
        raise ConfigError("--image, --text, --jsonl and --out need --mode=predict")
    several = bool(_COORDINATOR.value) or _DISTRIBUTED.value == "auto"
    if mode == "predict" and several:
        raise ConfigError(
            "--mode=predict runs on one process: leave out --distributed, --coordinator"
        )
    if _COORDINATOR.value and _DISTRIBUTED.value == "auto":
        raise ConfigError("--distributed=auto and --coordinator: give one of them")
    if mode == "predict":
        jobs = predict.read_jobs(_IMAGE.value, _TEXT.value, _JSONL.value)
        if not _OUT.value:
            raise ConfigError("--out: give the folder of the results")
        predict.write_predictions(Predictor(workdir, step, config), jobs, Path(_OUT.value))
    elif mode == "eval":
        _join(several)
        evaluate(config, workdir, step)
    elif config is None:
        raise ConfigError("--config: give a config file, as configs/shapes.py")
    elif _CHECKPOINT.value:
        raise ConfigError("--checkpoint needs --mode=eval or --mode=predict")
    else:
        _join(several)
        train_and_evaluate(config, workdir, stop)


def _join(several: bool) -> None:
    """Makes this one of several processes where the flags say so; the first one speaks for all."""
    if _COORDINATOR.value:
        join_processes(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    elif several:
        join_found_processes()
    if several and jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115


def _run_folder() -> tuple[Path, int | None]:
    """The run's workdir, and the step that was asked for."""
    if _CHECKPOINT.value:
        if _WORKDIR.value:
            raise ConfigError("--workdir and --checkpoint: give one of them")
        return split_path(Path(_CHECKPOINT.value))
    if _WORKDIR.value:
        return Path(_WORKDIR.value), None
    if _CONFIG.value is None:
        raise ConfigError("give a --config, or the --workdir or --checkpoint of a run")
    file, _, variant = config_flags.get_config_filename(FLAGS["config"]).partition(":")
    name = Path(file).stem + (f"_{variant}" if variant not in ("", "lts") else "")
    return Path("runs") / name, None


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
