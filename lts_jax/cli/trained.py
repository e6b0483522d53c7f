"""Flags that select a trained network, and loading of that network."""

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
    """Adds the flags that name a run and `--model`."""
    add_run_arguments(parser, checkpoint=True)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a network listed by `lts models`, a folder of a run or of `lts export`, or "
        "hf://owner/name[@revision]; replaces the flags above",
    )


def names_run(args: argparse.Namespace) -> bool:
    """Returns whether a flag names a run."""
    return bool(args.workdir or args.checkpoint or args.config)


def check_names_one(args: argparse.Namespace) -> None:
    """Raises ConfigError unless the flags name exactly one network, with local paths."""
    if args.model and names_run(args):
        raise ConfigError("--model cannot be combined with --workdir, --checkpoint or --config")
    if not args.model:
        run_folder(args)
    check_local_paths(args)


def read_predictor(args: argparse.Namespace) -> "Predictor":
    """Configures JAX and loads the network.

    Raises:
      ConfigError: the network or device does not exist, or the overrides are invalid.
    """
    from lts_jax.inference.predictor import Predictor

    configure_jax()
    check_devices()
    if args.model:
        check_saved_fields(args.overrides)
        return Predictor.from_pretrained(args.model, args.overrides)
    workdir, step = run_folder(args)
    return Predictor(workdir, step, trained_config(args, workdir, step))
