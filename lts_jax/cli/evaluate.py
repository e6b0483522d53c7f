"""Evaluates a checkpoint on the splits of its config and prints the metrics.

    lts eval --workdir runs/refcoco
    lts eval --checkpoint runs/refcoco/checkpoints/6701 --config.eval.splits=val,testA

Writes metrics, predictions, heatmaps and images to <workdir>/eval/<split>, or, with --checkpoint,
to <workdir>/step<N>/eval/<split>. In a distributed run, the processes share the work.
"""

import argparse

from lts_jax.cli.session import (
    add_process_arguments,
    add_run_arguments,
    configure_jax,
    joined,
    run_folder,
    trained_config,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    add_run_arguments(parser, checkpoint=True)
    add_process_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluates the checkpoint."""
    workdir, step = run_folder(args)
    from lts_jax.evaluation.run import evaluate

    configure_jax()
    with joined(args):
        evaluate(trained_config(args, workdir, step), workdir, step)
