"""Flags of the commands that predict, and the network that they name."""

import argparse
from typing import TYPE_CHECKING

from lts_jax.cli.session import (
    add_run_arguments,
    check_devices,
    check_local_paths,
    check_saved_fields,
    configure_jax,
    run_folder,
    trained_config,
)
from lts_jax.errors import ConfigError

if TYPE_CHECKING:
    from lts_jax.inference.predictor import Predictor


def add_trained_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags that name a run, and `--model`."""
    add_run_arguments(parser, checkpoint=True)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a network of `lts models`, a folder of a run or of `lts export`, or "
        "hf://owner/name[@revision]; instead of the flags above",
    )


def names_run(args: argparse.Namespace) -> bool:
    """Whether a flag names a run."""
    return bool(args.workdir or args.checkpoint or args.config)


def check_names_one(args: argparse.Namespace) -> None:
    """Raises ConfigError unless the flags name one network, by paths of this machine."""
    if args.model and names_run(args):
        raise ConfigError("--model goes without --workdir, --checkpoint and --config")
    if not args.model:
        run_folder(args)
    check_local_paths(args)


def read_predictor(args: argparse.Namespace) -> "Predictor":
    """Configures JAX, and reads the network.

    Raises:
      ConfigError: there is no such network or device, or the overrides do not fit it.
    """
    from lts_jax.inference.predictor import Predictor

    configure_jax()
    check_devices()
    if args.model:
        check_saved_fields(args.overrides)
        return Predictor.from_pretrained(args.model, args.overrides)
    workdir, step = run_folder(args)
    return Predictor(workdir, step, trained_config(args, workdir, step))
