"""What the commands print: messages by `logging`, and tables as text."""

import logging
import sys
from collections.abc import Sequence

VERSION = "0.1.0"  # as in pyproject.toml
PACKAGES = ("lts_jax", "tfds_refcoco", "benchmarks")


class _ConsoleHandler(logging.Handler):
    """Writes messages to stdout, and warnings, marked as such, to stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        # The streams of this moment: the later processes of a run replace theirs.
        if record.levelno >= logging.WARNING:
            print(f"{record.levelname}: {record.getMessage()}", file=sys.stderr, flush=True)
        else:
            print(record.getMessage(), flush=True)


def configure_logging() -> None:
    """Shows the messages of this project's packages; every command calls it once."""
    for name in PACKAGES:
        logger = logging.getLogger(name)
        if not any(isinstance(handler, _ConsoleHandler) for handler in logger.handlers):
            logger.addHandler(_ConsoleHandler())
        logger.setLevel(logging.INFO)
        logger.propagate = False
    # absl is Orbax's and ml_collections' logger, which has much to say that users need not read.
    logging.getLogger("absl").setLevel(logging.WARNING)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligns columns, the first to the left and the others to the right."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w)
            for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )
