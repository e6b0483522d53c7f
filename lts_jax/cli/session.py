"""Run folder, config and process handling shared by train, eval and predict."""

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
    default = " (default: the checkpoint's config)" if checkpoint else ""
    parser.add_argument("--config", metavar="NAME", help=CONFIG_HELP + default)
    parser.add_argument(
        "--workdir", metavar="DIR", help="folder of the run (default: runs/<config>[_<variant>])"
    )
    if checkpoint:
        parser.add_argument(
            "--checkpoint",
            metavar="DIR",
            help="<workdir>/checkpoints/<step> (default: the best checkpoint)",
        )


def add_process_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of a distributed run."""
    parser.add_argument(
        "--distributed",
        choices=("off", "auto"),
        default="off",
        help="auto: join a distributed run that JAX detects on TPU VMs, under SLURM or Open MPI, "
        "or from JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID",
    )
    parser.add_argument(
        "--coordinator", metavar="HOST:PORT", help="join a distributed run: address of process 0"
    )
    parser.add_argument(
        "--num_processes", type=int, default=1, help="with --coordinator: number of processes"
    )
    parser.add_argument(
        "--process_id",
        type=int,
        default=0,
        help="with --coordinator: index of this process, from 0",
    )


def check_local_paths(args: argparse.Namespace) -> None:
    """Raises ConfigError if a flag names a path in a bucket."""
    for name in ("workdir", "checkpoint", "image", "jsonl", "out"):
        check_local(f"--{name}", getattr(args, name, None))


def run_folder(args: argparse.Namespace) -> tuple[Path, int | None]:
    """Returns the run's workdir and the step of `--checkpoint`, if any.

    Raises:
      ConfigError: the flags name no run, or name two.
    """
    check_local_paths(args)
    if checkpoint := getattr(args, "checkpoint", None):
        from lts_jax.state.checkpoint_files import split_path

        if args.workdir:
            raise ConfigError("--workdir and --checkpoint are mutually exclusive: use one of them")
        return split_path(Path(checkpoint))
    if args.workdir:
        return Path(args.workdir), None
    if args.config is None:
        raise ConfigError("specify --config, or the --workdir or --checkpoint of a run")
    return default_workdir(args.config), None


def trained_config(args: argparse.Namespace, workdir: Path, step: int | None) -> ConfigDict | None:
    """Returns the config for evaluation or prediction; None means the checkpoint's config.

    Raises:
      ConfigError: the config or checkpoint does not exist, or the overrides are invalid.
    """
    if args.config is not None:
        return load_config(args.config, args.overrides)
    if not args.overrides:
        return None
    check_saved_fields(args.overrides)
    from lts_jax.experiment.restore import overridden

    return overridden(workdir, step, args.overrides)


def check_saved_fields(overrides: Sequence[str]) -> None:
    """Raises ConfigError if overrides change fields outside the data and eval sections."""
    for name in overridden_fields(overrides):
        if not re.match(r"(data|eval)\.", name):
            raise ConfigError(
                f"--config.{name}: without --config, only fields of data and eval can be set"
            )


def configure_jax() -> None:
    """Fixes the arithmetic, enables the compilation cache, and disables JAX's SIGTERM handler."""
    import jax

    from lts_jax.experiment import arithmetic

    arithmetic.fix()
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ and (cache := cache_folder()):
        jax.config.update("jax_compilation_cache_dir", str(cache / "xla"))
    # Otherwise our handler would never receive SIGTERM in a distributed run.
    jax.config.update("jax_enable_preemption_service", False)


def check_devices() -> None:
    """Raises ConfigError if JAX finds no device of the kind that the environment requests."""
    import jax

    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:
        wanted = jax.config.values["jax_platforms"]
        asked = f"JAX_PLATFORMS={wanted}: " if wanted else ""
        why = " ".join(str(error).split(" (set JAX_PLATFORMS")[0].split())
        raise ConfigError(
            f"{asked}JAX finds no such device{why and f' ({why})'}. Install JAX for that device "
            "(pip install 'lts_jax[cuda]' or 'lts_jax[tpu]'), or unset JAX_PLATFORMS"
        ) from error


@contextlib.contextmanager
def joined(args: argparse.Namespace) -> Iterator[None]:
    """Joins a distributed run if the flags request one; only the first process prints.

    A process that fails exits immediately: otherwise JAX would wait for the other processes.

    Raises:
      ConfigError: the flags contradict each other.
    """
    import jax

    from lts_jax.distributed import processes

    several = bool(args.coordinator) or args.distributed == "auto"
    if args.coordinator and args.distributed == "auto":
        raise ConfigError("--distributed=auto and --coordinator are exclusive: use one of them")
    if not args.coordinator and (args.num_processes, args.process_id) != (1, 0):
        raise ConfigError("--num_processes and --process_id require --coordinator")
    if args.coordinator:
        processes.check_address(args.coordinator, args.num_processes, args.process_id)
    try:
        if args.coordinator:
            processes.join_processes(args.coordinator, args.num_processes, args.process_id)
        elif several:
            processes.join_detected_processes()
        check_devices()
        if several and jax.process_index() > 0:
            sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
        yield
    except Stopped:
        raise
    except SaveError as error:  # the writer's threads would print many more lines
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
    """Prints a message and exits immediately, so that nothing is printed after it."""
    sys.stdout.flush()
    print(message, file=sys.stderr, flush=True)
    os._exit(1)
