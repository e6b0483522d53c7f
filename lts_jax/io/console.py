"""Console output of the commands: `logging` messages and text tables."""

import logging
import sys
from collections.abc import Sequence

VERSION = "0.1.0"  # as in pyproject.toml
PACKAGES = ("lts_jax", "tfds_refcoco", "benchmarks")


class _ConsoleHandler(logging.Handler):
    """Writes messages to stdout, and warnings with their level to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        # Look up the streams on each call: processes other than the first replace sys.stdout.
        if record.levelno >= logging.WARNING:
            print(f"{record.levelname}: {record.getMessage()}", file=sys.stderr, flush=True)
        else:
            print(record.getMessage(), flush=True)


def configure_logging() -> None:
    """Enables the log messages of this project's packages; every command calls it once."""
    for name in PACKAGES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _ConsoleHandler) for handler in logger.handlers):
            logger.addHandler(_ConsoleHandler())
        logger.setLevel(logging.INFO)
        logger.propagate = False
    # Orbax and ml_collections log many details through absl.
    logging.getLogger("absl").setLevel(logging.WARNING)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Formats a text table; the first column is left-aligned, the others right-aligned."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
