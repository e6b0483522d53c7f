"""Trains the variants of one of the paper's tables and writes the table.

    lts tables --config shapes --table 2

Finished runs are reused. The others are started or resumed, each as `lts train` in
<workdir>/<variant>/seed<K>.
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
        help=f"table of the paper, or beyond: {listed}",
    )
    parser.add_argument(
        "--seeds", type=positive, default=3, help="number of runs per variant, with seeds 0, 1, ..."
    )
    parser.add_argument(
        "--jobs",
        type=positive,
        default=1,
        help="number of parallel runs; to share a GPU, set XLA_PYTHON_CLIENT_PREALLOCATE=false",
    )
    parser.add_argument(
        "--workdir", type=Path, help="folder of the runs (default: runs/tables/<config>)"
    )
    parser.add_argument(
        "--read_only",
        action="store_true",
        help="do not train; write the table of the finished runs",
    )


def run(args: argparse.Namespace) -> None:
    """Trains the missing runs and writes the table."""
    if args.table not in TABLES:
        listed = ", ".join(map(str, TABLES))
        raise ConfigError(f"--table {args.table} is unknown; available tables: {listed}")
    path, variant = config_path(args.config)
    if variant:
        load_config(args.config)  # raises an error that lists the variants if it is unknown
        name = args.config.partition(":")[0]
        raise ConfigError(
            f"--config {args.config}: the table selects the variants; use --config {name}"
        )
    if "seed" in overridden_fields(args.overrides):
        raise ConfigError("--config.seed cannot be set here; --seeds 3 uses the seeds 0, 1 and 2")
    from lts_jax.paper.tables import make_table

    interrupt_on_signals()
    workdir = args.workdir or Path("runs") / "tables" / path.stem
    try:
        make_table(
            args.config, args.table, args.seeds, args.jobs, workdir, args.overrides, args.read_only
        )
    except KeyboardInterrupt:
        raise SystemExit("stopped; rerun the same command to resume") from None


def interrupt_on_signals() -> None:
    """Handles SIGTERM and SIGHUP like Ctrl-C, so that they also stop the started runs."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) != signal.SIG_IGN:  # as under nohup
            signal.signal(name, interrupt)
