"""What a check found, and how it is printed."""

from collections.abc import Sequence
from dataclasses import dataclass

OK, NOTE, FAILED, SKIPPED = "ok", "note", "FAILED", "not compared"
_SHOWN = 8  # details of one finding


@dataclass(frozen=True)
class Finding:
    """One check of one data set, or between several.

    Attributes:
      dataset: its name.
      what: was checked.
      status: OK, NOTE (worth knowing, and no fault), FAILED or SKIPPED.
      summary: in a few words.
      details: one line each.
    """

    dataset: str
    what: str
    status: str
    summary: str
    details: tuple[str, ...] = ()


def judge(dataset: str, what: str, faults: Sequence[str], good: str, *, known: str = "") -> Finding:
    """Returns a finding that failed if there are faults; `known` excuses them."""
    if not faults:
        return Finding(dataset, what, OK, good)
    if known:
        return Finding(dataset, what, SKIPPED, known, tuple(faults))
    count = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
    return Finding(dataset, what, FAILED, count, tuple(faults))


def format_findings(findings: Sequence[Finding]) -> str:
    """Returns a table, a line for each finding, and the first of its details below it."""
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
