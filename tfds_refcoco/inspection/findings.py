"""The result of a check, and its printed form."""

from collections.abc import Sequence
from dataclasses import dataclass

OK, NOTE, FAILED, SKIPPED = "ok", "note", "FAILED", "not compared"
_SHOWN = 8  # details printed per finding


@dataclass(frozen=True)
class Finding:
    """The result of one check of a dataset or a pair of datasets.

    Attributes:
      dataset: name of the dataset.
      what: name of the check.
      status: OK, NOTE (not an error), FAILED or SKIPPED.
      summary: short result.
      details: one line each.
    """

    dataset: str
    what: str
    status: str
    summary: str
    details: tuple[str, ...] = ()


def judge(dataset: str, what: str, faults: Sequence[str], good: str, *, known: str = "") -> Finding:
    """Returns a finding that fails if there are faults, unless `known` explains them."""
    if not faults:
        return Finding(dataset, what, OK, good)
    if known:
        return Finding(dataset, what, SKIPPED, known, tuple(faults))
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return Finding(dataset, what, FAILED, count, tuple(faults))


def format_findings(findings: Sequence[Finding]) -> str:
    """Returns a table with a line for each finding, followed by its first details."""
    widths = [max(len(getattr(f, name)) for f in findings) for name in ("dataset", "what")]
    lines = []
    for f in findings:
        lines.append(
            f"{f.status:<12}  {f.dataset:<{widths[0]}}  {f.what:<{widths[1]}}  {f.summary}".rstrip()
        )
        lines += [f"    {text}" for text in f.details[:_SHOWN]]
        if len(f.details) > _SHOWN:
            lines.append(f"    … and {len(f.details) - _SHOWN} more")
    return "\n".join(lines)
