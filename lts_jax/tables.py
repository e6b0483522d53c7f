"""The command that trains the variants of one of the paper's tables, and writes the table.

    python -m lts_jax.tables --config configs/shapes.py --table 2

Runs that are finished are read; the others are started, each as a `python -m lts_jax.main` in
`<workdir>/<variant>/seed<K>`, and go on from their checkpoints.
"""

import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from lts_jax import paper
from lts_jax.checks import plain_config
from lts_jax.cli import OVERRIDE, parse_flags, requested_config
from lts_jax.errors import ConfigError
from lts_jax.runs import Run, RunError, read_result, train
from lts_jax.table_report import format_markdown, make_report
from lts_jax.writers import write_json, write_text

_TABLES = ", ".join(map(str, paper.TABLES))
_FULL = "lts"


def plan(
    config_file: str, table: int, seeds: int, overrides: Sequence[str], workdir: Path
) -> dict[str, list[Run]]:
    """Returns the runs of each row of a table, one per seed.

    Table 6's 416 × 416 shares the runs of the full model where the config is the same.

    Raises:
      ConfigError: a config makes no sense, or the overrides make two rows the same run.
    """

    def make(variant: str, seed: int) -> Run:
        config = requested_config(f"{config_file}:{variant}", [*overrides, f"--config.seed={seed}"])
        return Run(variant, seed, workdir / variant / f"seed{seed}", config)

    rows: dict[str, list[Run]] = {}
    seen: dict[str, str] = {}
    for row in paper.TABLES[table]:
        variant = row
        if row == "size416" and _same(make(row, 0), make(_FULL, 0)):
            variant = _FULL
        rows[row] = [make(variant, seed) for seed in range(seeds)]
        other = seen.setdefault(str(plain_config(rows[row][0].config)), row)
        if other != row:
            raise ConfigError(
                f"the rows {other} and {row} of Table {table} are the same run: an override "
                "sets what they differ in"
            )
    return rows


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Returns the parsed command line's arguments that set fields of the config, as typed."""
    found: list[str] = []
    remaining = iter(flags.FLAGS.read_flags_from_files(list(arguments), force_gnu=False))
    for argument in remaining:
        if re.match(OVERRIDE, argument):
            found.append(argument)
            name = argument.lstrip("-")
            # A name alone: its value comes next.
            if name in flags.FLAGS and not flags.FLAGS[name].boolean:
                found.append(next(remaining))
    return found


def make_table(
    config_file: str,
    table: int,
    seeds: int,
    jobs: int,
    workdir: Path,
    overrides: Sequence[str],
    read_only: bool = False,
) -> None:
    """Trains what is missing of a table, and writes table<N>.md and table<N>.json to `workdir`.

    Both are written anew after each run. The Markdown is printed at the end.

    Args:
      config_file: without a variant.
      table: a key of `paper.TABLES`.
      seeds: runs of each variant.
      jobs: runs at a time.
      workdir: of the table.
      overrides: arguments as `--config.train.epochs=2`.
      read_only: whether to start no run.

    Raises:
      ConfigError: a config makes no sense, or a run's workdir holds a run with another one.
      RunError: a run has failed; what is there is written and printed first.
    """
    rows = plan(config_file, table, seeds, overrides, workdir)
    # All variants from one seed before any from the next; rows may share a run.
    runs = {row[k].workdir: row[k] for k in range(seeds) for row in rows.values()}
    results = {path: read_result(run) for path, run in runs.items()}
    missing = [] if read_only else [run for path, run in runs.items() if not results[path]]

    def command(run: Run) -> list[str]:
        return [
            *(sys.executable, "-m", "lts_jax.main"),
            *("--config", f"{config_file}:{run.variant}"),
            *("--workdir", str(run.workdir)),
            *overrides,
            f"--config.seed={run.seed}",
        ]

    def write() -> str:
        report = make_report(table, config_file, overrides, rows, results)
        markdown = format_markdown(report)
        write_json(workdir / f"table{table}.json", report)
        write_text(workdir / f"table{table}.md", markdown)
        return markdown

    def finished(run: Run) -> None:
        results[run.workdir] = read_result(run)
        write()

    write()
    found = sum(result is not None for result in results.values())
    print(f"{found} of {len(runs)} runs are finished", flush=True)
    try:
        train(missing, command, jobs, finished)
    finally:
        print(f"\n{write()}\nwrote {workdir / f'table{table}.md'} and .json", flush=True)


def define_flags() -> None:
    """Defines the command's flags; not on import, as other commands have some of their names."""
    config_flags.DEFINE_config_file(
        "config", None, "Config file, without a variant.", lock_config=True
    )
    flags.DEFINE_integer("table", None, f"Of the paper: {_TABLES}.")
    flags.DEFINE_integer(
        "seeds", 3, "Runs of each variant, with the seeds 0, 1, ...", lower_bound=1
    )
    flags.DEFINE_integer(
        "jobs",
        1,
        "Runs at a time. Runs that share a GPU need XLA_PYTHON_CLIENT_PREALLOCATE=false.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "workdir",
        None,
        "Folder of the runs; runs/tables/<name of the config file> where not given.",
    )
    flags.DEFINE_bool("read_only", False, "Start no run: write what is there.")
    flags.mark_flags_as_required(["config", "table"])


def main(argv: list[str]) -> None:
    """Runs what the flags say."""
    if len(argv) > 1:
        sys.exit(f"error: unknown arguments: {' '.join(argv[1:])}")
    logging.set_verbosity(logging.WARNING)
    given = flags.FLAGS
    file = config_flags.get_config_filename(given["config"])
    if given.table not in paper.TABLES:
        why = "puts the segmenter on CMPC, another model" if given.table == 3 else "is unknown"
        sys.exit(f"error: --table {given.table} {why}; the tables are {_TABLES}")
    if ":" in file:
        name, _, variant = file.partition(":")
        sys.exit(f"error: the table chooses the variants: give --config {name} without :{variant}")
    if "seed" in config_flags.get_override_values(given["config"]):
        sys.exit("error: --config.seed cannot be set here: --seeds 3 takes the seeds 0, 1 and 2")
    workdir = Path(given.workdir or Path("runs") / "tables" / Path(file).stem)
    _interrupt_on_signals()
    try:
        make_table(
            file,
            given.table,
            given.seeds,
            given.jobs,
            workdir,
            overrides_of(sys.argv[1:]),
            given.read_only,
        )
    except (ConfigError, RunError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the last checkpoints")


def _interrupt_on_signals() -> None:
    """Makes the signals that would leave the runs behind do as Ctrl-C does."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for name in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(name) != signal.SIG_IGN:  # as under nohup
            signal.signal(name, interrupt)


def _same(a: Run, b: Run) -> bool:
    return plain_config(a.config) == plain_config(b.config)


if __name__ == "__main__":
    define_flags()
    app.run(main, flags_parser=parse_flags)
