"""Trains the variants of one of the paper's tables, and writes the table.

    lts tables --config shapes --table 2

Finished runs are read; the others are started, each as `lts train` in
<workdir>/<variant>/seed<K>, and resume from their checkpoints.
"""

import argparse
import signal
from pathlib import Path

from lts_jax.cli.arguments import CONFIG_HELP, positive
from lts_jax.config.flags import config_path, load_config, overridden_fields
from lts_jax.errors import ConfigError
from lts_jax.paper.numbers import TABLES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of the command."""
    listed = ", ".join(map(str, TABLES))
    parser.add_argument("--config", required=True, metavar="NAME", help=CONFIG_HELP)
    parser.add_argument(
        "--table",
        required=True,
        type=lambda text: int(text) if text.isdecimal() else text,
        help=f"of the paper, or what goes beyond it: {listed}",
    )
    parser.add_argument(
        "--seeds", type=positive, default=3, help="runs of each variant, with the seeds 0, 1, ..."
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        help="runs at a time; runs that share a GPU need XLA_PYTHON_CLIENT_PREALLOCATE=false",
    )
    parser.add_argument(
        "--workdir", type=Path, help="folder of the runs; runs/tables/<config> if omitted"
    )
    parser.add_argument(
        "--read_only", action="store_true", help="start no run: write what is finished"
    )


def run(args: argparse.Namespace) -> None:
    """Trains what is missing, and writes the table."""
    if args.table not in TABLES:
        listed = ", ".join(map(str, TABLES))
        raise ConfigError(f"--table {args.table} is unknown; the tables are {listed}")
    path, variant = config_path(args.config)
    if variant:
        load_config(args.config)  # an unknown variant is answered by the list
        name = args.config.partition(":")[0]
        raise ConfigError(
            f"the table chooses the variants: give --config {name} without :{variant}"
        )
    if "seed" in overridden_fields(args.overrides):
        raise ConfigError("--config.seed cannot be set here: --seeds 3 takes the seeds 0, 1 and 2")
    from lts_jax.paper.tables import make_table

    interrupt_on_signals()
    workdir = args.workdir or Path("runs") / "tables" / path.stem
    try:
        make_table(
            args.config, args.table, args.seeds, args.jobs, workdir, args.overrides, args.read_only
        )
    except KeyboardInterrupt:
        raise SystemExit("stopped; the same command goes on from the last checkpoints") from None


def interrupt_on_signals() -> None:
    """Makes the signals that would leave the runs behind do as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) != signal.SIG_IGN:  # as under nohup
            signal.signal(name, interrupt)
