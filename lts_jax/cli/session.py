"""What train, eval and predict share: the run's folder, its config, its processes."""

import argparse
import contextlib
import os
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from ml_collections import ConfigDict

from lts_jax.cli.arguments import CONFIG_HELP, default_workdir
from lts_jax.config.flags import load_config, overridden_fields
from lts_jax.config.validation import check_local
from lts_jax.errors import USER_ERRORS, ConfigError, SaveError, Stopped
from lts_jax.io.files import cache_folder
from tfds_refcoco.errors import DataError


def add_run_arguments(parser: argparse.ArgumentParser, *, checkpoint: bool) -> None:
    """Adds `--config`, `--workdir` and, for a trained run, `--checkpoint`."""
    default = "; the checkpoint's own if omitted" if checkpoint else ""
    parser.add_argument("--config", metavar="NAME", help=CONFIG_HELP + default)
    parser.add_argument(
        "--workdir", metavar="DIR", help="folder of the run; runs/<config>[_<variant>] if omitted"
    )
    if checkpoint:
        parser.add_argument(
            "--checkpoint",
            metavar="DIR",
            help="<workdir>/checkpoints/<step>; the best checkpoint if omitted",
        )


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a run on several processes."""
    parser.add_argument(
        "--distributed",
        choices=("off", "auto"),
        default="off",
        help="auto: one of several processes, found by JAX on TPU VMs, under SLURM and Open MPI or "
        "in JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID",
    )
    parser.add_argument(
        "--coordinator", metavar="HOST:PORT", help="one of several processes: where the first is"
    )
    parser.add_argument(
        "--num_processes", type=int, default=1, help="with --coordinator: how many processes"
    )
    parser.add_argument(
        "--process_id", type=int, default=0, help="with --coordinator: which this is, from 0"
    )


def check_local_paths(args: argparse.Namespace) -> None:
    """Raises ConfigError where a flag names a path in a bucket."""
    for name in ("workdir", "checkpoint", "image", "jsonl", "out"):
        check_local(f"--{name}", getattr(args, name, None))


def run_folder(args: argparse.Namespace) -> tuple[Path, int | None]:
    """Returns the run's workdir, and the step of `--checkpoint`.

    Raises:
      ConfigError: the flags do not say which.
    """
    check_local_paths(args)
    if checkpoint := getattr(args, "checkpoint", None):
        from lts_jax.state.checkpoint_files import split_path

        if args.workdir:
            raise ConfigError("--workdir and --checkpoint: give one of them")
        return split_path(Path(checkpoint))
    if args.workdir:
        return Path(args.workdir), None
    if args.config is None:
        raise ConfigError("give a --config, or the --workdir or --checkpoint of a run")
    return default_workdir(args.config), None


def trained_config(args: argparse.Namespace, workdir: Path, step: int | None) -> ConfigDict | None:
    """Returns the config to evaluate or predict with; None is the checkpoint's own.

    Raises:
      ConfigError: there is no such config or checkpoint, or the overrides do not fit it.
    """
    if args.config is not None:
        return load_config(args.config, args.overrides)
    if not args.overrides:
        return None
    check_saved_fields(args.overrides)
    from lts_jax.experiment.restore import overridden

    return overridden(workdir, step, args.overrides)


def check_saved_fields(overrides: Sequence[str]) -> None:
    """Raises ConfigError where overrides of a trained network's config make another network."""
    for name in overridden_fields(overrides):
        if not re.match(r"(data|eval)\.", name):
            raise ConfigError(
                f"--config.{name}: without --config, fields of data and eval alone can be set"
            )


def configure_jax() -> None:
    """Fixes the arithmetic, keeps compiled programs between runs, and leaves SIGTERM to us."""
    import jax

    from lts_jax.experiment import arithmetic

    arithmetic.fix()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (cache := cache_folder()):
        jax.config.update("jax_compilation_cache_dir", str(cache / "xla"))
    # Else SIGTERM would never reach us where several processes are joined.
    jax.config.update("jax_enable_preemption_service", False)


def check_devices() -> None:
    """Raises ConfigError where JAX finds no device of the kind that the environment asks for."""
    import jax

    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        wanted = jax.config.values["jax_platforms"]
        asked = f"JAX_PLATFORMS={wanted}: " if wanted else ""
        why = " ".join(str(error).split(" (set JAX_PLATFORMS")[0].split())
        raise ConfigError(
            f"{asked}JAX finds no such device{why and f' ({why})'}. Install the JAX of that device "
            "(pip install 'lts_jax[cuda]' or 'lts_jax[tpu]'), or unset JAX_PLATFORMS"
        ) from error


@contextlib.contextmanager
def joined(args: argparse.Namespace) -> Iterator[None]:
    """Makes this one of several processes if the flags say so; the first one prints for all.

    An error of one ends it at once: JAX would wait for the others to end too.

    Raises:
      ConfigError: the flags contradict each other.
    """
    import jax

    from lts_jax.distributed import processes

    several = bool(args.coordinator) or args.distributed == "auto"
    if args.coordinator and args.distributed == "auto":
        raise ConfigError("--distributed=auto and --coordinator: give one of them")
    if not args.coordinator and (args.num_processes, args.process_id) != (1, 0):
        raise ConfigError("--num_processes and --process_id need --coordinator")
    if args.coordinator:
        processes.check_address(args.coordinator, args.num_processes, args.process_id)
    try:
        if args.coordinator:
            processes.join_processes(args.coordinator, args.num_processes, args.process_id)
        elif several:
            processes.join_found_processes()
        check_devices()
        if several and jax.process_index() > 0:
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        yield
    except Stopped:
        raise
    except SaveError as error:  # threads of its writer still print, for many lines
        _end(f"error: {error}")
    except (*USER_ERRORS, DataError) as error:
        if not several:
            raise
        _end(f"error: {error}")
    except KeyboardInterrupt:
        if not several:
            raise
        _end("stopped")
    except Exception:
        if not several:
            raise
        _end(traceback.format_exc())


def _end(message: str) -> NoReturn:
    """Ends the process with a message as the last thing that it prints."""
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    os._exit(1)
