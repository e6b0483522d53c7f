"""Trains the variants of one of the paper's tables in subprocesses, and writes the table."""

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from lts_jax.config.flags import load_config
from lts_jax.configs.fields import plain_config
from lts_jax.data.datasets import build_if_missing
from lts_jax.errors import ConfigError
from lts_jax.io.files import write_json, write_text
from lts_jax.paper import numbers
from lts_jax.paper.runs import Run, read_result, train, why_unfinished
from lts_jax.paper.table_report import format_markdown, make_report
from lts_jax.state.checkpoint_files import check_path
from tfds_refcoco.records.joint import open_datasets

logger = logging.getLogger(__name__)

_FULL = "lts"


def plan(
    config_file: str, table: int | str, seeds: int, overrides: Sequence[str], workdir: Path
) -> dict[str, list[Run]]:
    """Returns the runs of each row of a table, one per seed.

    The row 416 × 416 of Table 6 shares the runs of the full model if their configs are equal.

    Raises:
      ConfigError: a config is invalid, or the overrides make two rows identical.
    """

    def make(variant: str, seed: int) -> Run:
        config = load_config(f"{config_file}:{variant}", [*overrides, f"--config.seed={seed}"])
        return Run(variant, seed, workdir / variant / f"seed{seed}", config)

    rows: dict[str, list[Run]] = {}
    seen: dict[str, str] = {}
    for row in numbers.TABLES[table]:
        variant = row
        if row == "size416" and _same(make(row, 0), make(_FULL, 0)):
            variant = _FULL
        rows[row] = [make(variant, seed) for seed in range(seeds)]
        other = seen.setdefault(str(plain_config(rows[row][0].config)), row)
        if other != row:
            raise ConfigError(
                f"the rows {other} and {row} of Table {table} are the same run: an override sets "
                "the field in which they differ; remove this override"
            )
    return rows


def make_table(
    config_file: str,
    table: int | str,
    seeds: int,
    jobs: int,
    workdir: Path,
    overrides: Sequence[str],
    read_only: bool = False,
) -> None:
    """Trains the missing runs of a table; writes table<N>.md and table<N>.json to `workdir`.

    For the table "beyond", the files are beyond.md and beyond.json. Both files are updated after
    each run. The Markdown is printed at the end.

    Args:
      config_file: without a variant.
      table: a key of `numbers.TABLES`.
      seeds: number of runs of each variant.
      jobs: maximum number of simultaneous runs.
      workdir: of the table.
      overrides: arguments such as `--config.train.epochs=2`.
      read_only: if True, starts no runs.

    Raises:
      ConfigError: a config is invalid, or a run's workdir contains a run with another config.
      tfds_refcoco.DataError: the dataset cannot be built or opened, or has no such training split.
      RunError: a run failed; the available results are written and printed first.
    """
    check_path(workdir)
    name = numbers.table_name(table)
    rows = plan(config_file, table, seeds, overrides, workdir)
    # All variants with the first seed, then with the second; rows can share a run.
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
        write_json(workdir / f"{name}.json", report)
        write_text(workdir / f"{name}.md", markdown)
        return markdown

    def finished(run: Run) -> None:
        results[run.workdir] = read_result(run)
        write()

    write()
    if read_only:
        for path, run in runs.items():
            if results[path] is None and path.exists():
                logger.warning("%s is omitted: %s", path, why_unfinished(run))
    prepare_data(missing)
    finished_runs = sum(result is not None for result in results.values())
    logger.info("%d of %d runs are finished", finished_runs, len(runs))
    try:
        train(missing, command, jobs, finished)
    finally:
        print(f"\n{write()}\nwrote {workdir / f'{name}.md'} and .json", flush=True)


def prepare_data(runs: Sequence[Run]) -> None:
    """Builds the runs' datasets, so that a missing dataset is reported once instead of per run.

    Raises:
      tfds_refcoco.DataError: as for `make_table`.
    """
    for data in {str(run.config.data): run.config.data for run in runs}.values():
        folder = Path(data.dir)
        build_if_missing(data.dataset, folder, Path(data.raw) if data.raw else None)
        open_datasets(folder, data.dataset, data.train_split).split(data.train_split)


def _same(a: Run, b: Run) -> bool:
    return plain_config(a.config) == plain_config(b.config)
