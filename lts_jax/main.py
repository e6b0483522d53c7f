"""The command: `python -m lts_jax.main --config configs/refcoco.py`."""

import os
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from lts_jax.huge_pages import start_again

if __name__ == "__main__":  # the imports take seconds, in which a machine may be taken away too
    start_again()
    signal.signal(
        signal.SIGTERM, lambda *_: os._exit(not os.write(1, b"stopped before it began\n"))
    )

import jax
from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from lts_jax import predict
from lts_jax.checkpointing import open_checkpoints, split_path
from lts_jax.checks import check_local
from lts_jax.cli import OVERRIDE, override, parse_flags, split_lists
from lts_jax.errors import ConfigError, NonFiniteLossError, SaveError
from lts_jax.experiment import config_of
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
    if len(argv) > 1 and not _sets_checkpoint(argv):
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
        run(_MODE.value, argv[1:], stop)
    except Stopped as stopped:
        print(f"{stopped}; the same command goes on", flush=True)
        sys.exit(stop.exit_status)
    except SaveError as error:  # threads of its writer still speak, for many lines
        _end(f"error: {error}")
    except (ConfigError, DataError, NonFiniteLossError, OSError) as error:
        _fail(f"error: {error}")
    except KeyboardInterrupt:
        _fail("stopped")
    except Exception:
        if not _several():
            raise
        _fail(traceback.format_exc())


def _several() -> bool:
    """Whether this is one of several processes."""
    return bool(_COORDINATOR.value) or _DISTRIBUTED.value == "auto"


def _fail(message: str) -> NoReturn:
    """Ends with a message; one of several at once: JAX would wait for the others to end too."""
    if _several():
        _end(message)
    sys.exit(message)


def _end(message: str) -> NoReturn:
    """Ends with a message as the last thing that is said."""
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    os._exit(1)


def run(mode: str, overrides: Sequence[str] = (), stop: Stop | None = None) -> None:
    """Runs one of the modes.

    Args:
      mode: train, eval or predict.
      overrides: `--config.a.b=…`, which set fields of a checkpoint's config.
      stop: tells a training to stop.
    """
    for flag in (_WORKDIR, _CHECKPOINT, _IMAGE, _JSONL, _OUT):
        check_local(f"--{flag.name}", flag.value)
    workdir, step = _run_folder()
    if mode != "predict" and (_IMAGE.value or _TEXT.value or _JSONL.value or _OUT.value):
        raise ConfigError("--image, --text, --jsonl and --out need --mode=predict")
    several = _several()
    if mode == "predict" and several:
        raise ConfigError(
            "--mode=predict runs on one process: leave out --distributed, --coordinator"
        )
    if _COORDINATOR.value and _DISTRIBUTED.value == "auto":
        raise ConfigError("--distributed=auto and --coordinator: give one of them")
    if not _COORDINATOR.value and (_PROCESSES.value, _PROCESS.value) != (1, 0):
        raise ConfigError("--num_processes and --process_id need --coordinator")
    if mode == "predict":
        jobs = predict.read_jobs(_IMAGE.value, _TEXT.value, _JSONL.value)
        if not _OUT.value:
            raise ConfigError("--out: give the folder of the results")
        predictor = Predictor(workdir, step, _config(workdir, step, overrides))
        predict.write_predictions(predictor, jobs, Path(_OUT.value))
    elif mode == "eval":
        _join(several)
        evaluate(_config(workdir, step, overrides), workdir, step)
    elif _CONFIG.value is None:
        raise ConfigError("--config: give a config file, as configs/shapes.py")
    elif _CHECKPOINT.value:
        raise ConfigError("--checkpoint needs --mode=eval or --mode=predict")
    else:
        _join(several)
        train_and_evaluate(split_lists(_CONFIG.value), workdir, stop)


def _join(several: bool) -> None:
    """Makes this one of several processes where the flags say so; the first one speaks for all."""
    if _COORDINATOR.value:
        join_processes(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
    elif several:
        join_found_processes()
    if several and jax.process_index() > 0:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115


def parse(argv: list[str]) -> list[str]:
    """Parses the command line; leaves what sets fields of a checkpoint's config."""
    return parse_flags(argv, known_only=_sets_checkpoint(argv))


def _sets_checkpoint(argv: list[str]) -> bool:
    """Whether it sets fields of a config that it does not name: the checkpoint's."""
    named = any(re.match(r"--?config(=|$)", argument) for argument in argv)
    return not named and any(re.match(OVERRIDE, argument) for argument in argv)


def _config(workdir: Path, step: int | None, overrides: Sequence[str]) -> ConfigDict | None:
    """To evaluate and predict with; None is the checkpoint's own."""
    if _CONFIG.value is not None:
        return split_lists(_CONFIG.value)
    if not overrides:
        return None
    for argument in overrides:
        if re.match(OVERRIDE, argument) and not re.match(r"--?config\.(data|eval)\.", argument):
            raise ConfigError(
                f"{argument}: without --config, fields of data and eval alone can be set"
            )
    with open_checkpoints(workdir) as checkpoints:
        saved = checkpoints.read_run(checkpoints.choose(step))["config"]
    return override(config_of(saved), overrides)


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
    app.run(main, flags_parser=parse)
