"""Reports the results of a table's runs and the paper's numbers, as JSON and Markdown."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lts_jax.data.datasets import leaks
from lts_jax.errors import ConfigError
from lts_jax.evaluation.metrics import METRIC_NAMES
from lts_jax.evaluation.results import by_role
from lts_jax.experiment.thresholds import fixed
from lts_jax.paper import numbers
from lts_jax.paper.runs import Run
from tfds_refcoco.inspection.published import PUBLISHED

# The paper's "IoU" is one of these; the paper does not specify which.
_IOUS = ("oiou", "miou")
_ABSENT = "\N{EN DASH}"
_BEST = "ours_at_best_threshold"
_OF_BEST = "{}, at the best threshold on val:"


def make_report(
    table: int | str,
    config_file: str,
    overrides: Sequence[str],
    rows: Mapping[str, Sequence[Run]],
    results: Mapping[Path, dict[str, Any] | None],
) -> dict[str, Any]:
    """Collects a table as plain data.

    Args:
      table: a key of `numbers.TABLES`.
      config_file: from the command line.
      overrides: from the command line.
      rows: runs, one per seed, by row of the table.
      results: results of `read_result` by workdir.

    Returns:
      The content of table<N>.json. Each run's metrics are shares in 0..1, as in its workdir. `ours`
      and `ours_at_best_threshold` (mean, sample standard deviation, number of seeds, at the
      threshold of the config and at each run's best threshold on val) and `paper` are in percent.

    Raises:
      ConfigError: runs were evaluated on different data.
    """
    config = next(iter(rows.values()))[0].config
    _check_same_data(results)
    dataset = config.data.dataset
    family = numbers.FAMILIES.get(dataset, "")
    own = any(family in row for row in numbers.TABLES[table].values())
    family = family if own else "refcoco"
    partial = _partial_splits(dataset, results)
    report: dict[str, Any] = {
        "table": table,
        "title": numbers.TITLES[table],
        "config_file": config_file,
        "overrides": list(overrides),
        "dataset": dataset,
        "seeds": len(next(iter(rows.values()))),
        "paper_dataset": numbers.FAMILY_NAMES[family],
        # Tables without numbers of the paper need no warning.
        "comparable": (own or not any(numbers.TABLES[table].values())) and not partial,
        "partial_splits": partial,
        "leaks": _leaks(results),
        "splits": list(config.eval.splits),
        "epochs": config.train.epochs,
        "threshold": fixed(config.eval.threshold),
        "rows": [],
    }
    for variant, runs in rows.items():
        finished = [result for run in runs if (result := results[run.workdir])]
        row: dict[str, Any] = {
            "variant": variant,
            "image_size": runs[0].config.data.image_size,
            "location_weight": runs[0].config.train.location_weight,
        }
        if table == 2:
            names = numbers.COMPONENT_NAMES
            row["components"] = dict(zip(names, numbers.COMPONENTS[variant], strict=True))
        row["ours"] = {s: _summarize(finished, s, "number") for s in report["splits"]}
        row[_BEST] = {s: _summarize(finished, s, "val") for s in report["splits"]}
        row["paper"] = {s: numbers.reported(table, variant, family, s) for s in report["splits"]}
        row["runs"] = [
            {"seed": run.seed, "workdir": str(run.workdir)} | (results[run.workdir] or {})
            for run in runs
        ]
        report["rows"].append(row)
    return report


def format_markdown(report: Mapping[str, Any]) -> str:
    """Formats the result of `make_report` as Markdown, with a table per split."""
    # Rows can share runs.
    runs = {run["workdir"]: run for row in report["rows"] for run in row["runs"]}
    finished = [run for run in runs.values() if "step" in run]
    facts = [
        f"`{' '.join([report['config_file'], *report['overrides']])}`",
        f"{len(finished)} of {len(runs)} runs, seeds 0 to {report['seeds'] - 1}"
        if report["seeds"] > 1
        else f"{len(finished)} of {len(runs)} runs, seed 0",
    ]
    facts.append(f"{report['epochs']} epochs")
    weights = sorted({row["location_weight"] for row in report["rows"]} - {0.0})
    facts += [f"λ = {', '.join(map(str, weights))}"] if weights else []
    if finished:
        steps = sorted({run["step"] for run in finished})
        span = f"s {steps[0]} to {steps[-1]}" if len(steps) > 1 else f" {steps[0]}"
        facts += [
            f"best checkpoints at step{span}",
            _distinct(run["devices"] for run in finished),
            "jax " + _distinct(run["versions"]["jax"] for run in finished),
        ]
    notes = [
        "In percent. Ours: mean ± sample standard deviation over n seeds. The column `paper` and "
        "numbers after a slash are from the paper, which does not specify its kind of IoU."
    ]
    if any(part["threshold"] for row in report["rows"] for part in row[_BEST].values()):
        notes.append(
            f"The first table of a split uses the threshold {report['threshold']:g}. The second "
            "uses each run's best threshold, chosen by oIoU on val only."
        )
    if report["leaks"]:
        notes.append(f"Trained on held-out images (data.allow_leaks): {report['leaks']}.")
    if report["partial_splits"]:
        notes.append(
            f"{', '.join(report['partial_splits'])} of {report['dataset']} were not evaluated on "
            "all published sentences, so only the ranking of the rows can be compared with the "
            "paper."
        )
    elif not report["comparable"]:
        notes.append(
            f"The paper has no Table {report['table']} on {report['dataset']}. Its numbers here "
            f"are for {report['paper_dataset']}, so only the ranking of the rows can be compared."
        )
    if report["table"] == 2:
        notes.append(
            "Without L_loc the segmenter's heatmap is not supervised, so the pointing of "
            "filter_seg and no_loc_loss is not meaningful."
        )
    if report["table"] == 3:
        notes.append(
            "The paper's CMPC is the original implementation, which refines masks with a DenseCRF "
            "(Table 1); ours does not."
        )
    number = "Beyond the paper" if report["table"] == "beyond" else f"Table {report['table']}"
    lines = [
        f"# {number} on {report['dataset']}: {report['title']}",
        "; ".join(facts) + ".",
        *notes,
    ]
    for split in report["splits"]:
        lines += [_heading(split, finished), _split_table(report, split, "ours")]
        if any(row[_BEST][split]["threshold"] for row in report["rows"]):
            lines += [_OF_BEST.format(split), _split_table(report, split, _BEST)]
    return "\n\n".join(lines) + "\n"


def _split_table(report: Mapping[str, Any], split: str, key: str) -> str:
    parts = list(numbers.COMPONENT_NAMES) if report["table"] == 2 else []
    size = ["input"] if report["table"] in (6, 7) else []
    others = [name for name in METRIC_NAMES if name not in _IOUS]
    threshold = ["threshold"] if key == _BEST else []
    header = ["variant", *parts, *size, "n", *threshold, "oIoU", "mIoU", "paper", *others]
    left = 1 + len(parts)
    lines = [header, [":--"] + [":-:"] * (left - 1) + ["--:"] * (len(header) - left)]
    for row in report["rows"]:
        ours, theirs = row[key][split], row["paper"][split]
        cells = [row["variant"], *("✓" if row["components"][name] else "" for name in parts)]
        cells += [str(row["image_size"])] * len(size)
        cells.append(str(sum("step" in run for run in row["runs"])))
        cells += [_mean(ours[name], 2) for name in threshold]
        cells += [_mean(ours[name], 2) for name in _IOUS]
        cells.append(f"{theirs['iou']:.2f}" if "iou" in theirs else _ABSENT)
        for name in others:
            cell = _mean(ours[name], 1)
            cells.append(f"{cell} / {theirs[name]:.2f}" if name in theirs else cell)
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _heading(split: str, finished: Sequence[Mapping[str, Any]]) -> str:
    if not finished:
        return f"## {split}"
    metrics = finished[0]["splits"][split]["metrics"]
    return f"## {split}: {metrics['sentences']} sentences of {metrics['images']} images"


def _summarize(
    finished: Sequence[Mapping[str, Any]], split: str, role: str
) -> dict[str, dict[str, float | int | None] | None]:
    """Returns mean, sample standard deviation and count per metric, in percent; None if undefined.

    `threshold` is a probability. For `role`, see `lts_jax.evaluation.results.by_role`.
    """
    parts = [by_role(result["splits"][split]["metrics"]).get(role, {}) for result in finished]
    summary: dict[str, dict[str, float | int | None] | None] = {}
    for name in (*METRIC_NAMES, "threshold"):
        factor = 1 if name == "threshold" else 100
        values = [factor * part[name] for part in parts if part.get(name) is not None]
        summary[name] = None
        if values:
            std = statistics.stdev(values) if len(values) > 1 else None
            summary[name] = {"mean": statistics.fmean(values), "std": std, "n": len(values)}
    return summary


def _mean(summary: Mapping[str, float | None] | None, digits: int) -> str:
    if summary is None:
        return _ABSENT
    mean, std = summary["mean"], summary["std"]
    return f"{mean:.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def _distinct(values: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(values))


def _partial_splits(dataset: str, results: Mapping[Path, dict[str, Any] | None]) -> list[str]:
    """Returns the splits with another number of sentences than published, if that is known."""
    published = {
        prefix + split: counts.sentences
        for name in dataset.split("+")
        for prefix in ("", f"{name.strip()}/")  # with several datasets, splits have a prefix
        for split, counts in PUBLISHED.get(name.strip(), {}).items()
        if counts.sentences
    }
    counted = {
        split: value["metrics"]["sentences"]
        for result in results.values()
        for split, value in (result or {"splits": {}})["splits"].items()
    }
    return [split for split, n in counted.items() if n != published.get(split, n)]


def _leaks(results: Mapping[Path, dict[str, Any] | None]) -> str:
    """Describes the held-out images that runs trained on; "" if there are none."""
    trained_on = (result["trained_on"] for result in results.values() if result)
    return next((listed for data in trained_on if (listed := leaks(data))), "")


def _check_same_data(results: Mapping[Path, dict[str, Any] | None]) -> None:
    first: dict[str, tuple[Path, Any]] = {}
    for workdir, result in results.items():
        for split, value in (result or {"splits": {}})["splits"].items():
            other, data = first.setdefault(split, (workdir, value["data"]))
            if data != value["data"]:
                raise ConfigError(
                    f"{other} and {workdir} were evaluated on different data for {split}: {data} "
                    f"and {value['data']}; set --workdir to another folder"
                )
