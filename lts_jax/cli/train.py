"""Trains a network or resumes training, then evaluates the best checkpoint.

    lts train --config shapes
    lts train --config refcoco:transformer --workdir runs/t --config.train.batch_size=64

Rerun the same command to resume. On SIGTERM or Ctrl-C, training finishes the step, saves and exits.
"""

import argparse
import os
import signal
import sys

from lts_jax.cli.session import (
    add_process_arguments,
    add_run_arguments,
    configure_jax,
    joined,
    run_folder,
)
from lts_jax.config.flags import load_config
from lts_jax.errors import ConfigError, Stopped
from tfds_refcoco.console import EscapedStream


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_run_arguments(parser, checkpoint=False)
    add_process_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Trains and evaluates."""
    # A machine may also be preempted during the imports, which take seconds.
    signal.signal(signal.SIGTERM, _stop_before_start)
    if args.config is None:
        raise ConfigError("--config is required, for example --config shapes")
    workdir, _ = run_folder(args)
    config = load_config(args.config, args.overrides)
    from lts_jax.training.loop import train_and_evaluate
    from lts_jax.training.preemption import Stop

    configure_jax()
    stop = Stop()
    stop.listen()
    if isinstance(sys.stdout, EscapedStream):  # a closed pipe must not lose steps: save them
        sys.stdout.on_closed = lambda: signal.raise_signal(signal.SIGTERM)
    try:
        with joined(args):
            train_and_evaluate(config, workdir, stop)
    except Stopped as stopped:
        print(f"{stopped}; rerun the same command to resume", flush=True)
        sys.exit(stop.exit_status)


def _stop_before_start(*_: object) -> None:
    os._exit(not os.write(1, b"stopped before training began\n"))
