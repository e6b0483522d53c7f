"""Output streams that accept any text, and pass no control characters to the terminal."""

import atexit
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

# All of C0 and C1 but tab and newline, and the marks that reverse the text that follows.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_CLOSED_PIPE = 128 + 13  # the exit status of a program that SIGPIPE ends


def printable(text: str) -> str:
    r"""Escapes control characters: ESC becomes the four characters `\x1b`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _exit() -> None:
    sys.exit(_CLOSED_PIPE)


class EscapedStream:
    """A text stream that escapes control characters, and ends quietly if nobody reads it any more.

    Everything that a command prints passes through it: tables, messages, errors, usage messages of
    argparse and tracebacks may all hold a sentence or a file name that somebody else chose.

    Attributes:
      on_closed: called when the reader of a pipe has closed it, as `head` does; by default it
        raises SystemExit. What is printed after that is discarded.
      raw: the stream itself, for progress bars.
    """

    on_closed: Callable[[], None] = staticmethod(_exit)

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw
        if isinstance(raw, io.TextIOWrapper):
            raw.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> int:
        """Writes text; returns its length."""
        self._guard(lambda: self.raw.write(printable(text)))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        """Writes several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flushes the stream."""
        self._guard(self.raw.flush)

    def _guard(self, act: Callable[[], object]) -> None:
        try:
            act()
        except BrokenPipeError:
            _discard(self.raw)
            self.on_closed()
        except OSError:  # the disk is full, for example: one error is enough
            _discard(self.raw)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def _discard(stream: TextIO) -> None:
    """Redirects the stream's file descriptor to nowhere, also for what is still in its buffer."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def prepare_streams() -> None:
    """Replaces stdout and stderr by `EscapedStream`s; every command calls it first.

    A stream that is closed from the start, as by `>&-`, stays so: Python prints nothing there.
    """
    atexit.register(_flush_quietly)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, EscapedStream):
            setattr(sys, name, EscapedStream(stream))


def _flush_quietly() -> None:
    """Keeps Python from complaining of a closed pipe when it exits."""
    try:
        getattr(sys.stdout, "raw", sys.stdout).flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except Exception:
        pass  # whatever Python itself says then


def finish_streams() -> None:
    """Flushes stdout; every command calls it last, as an error while Python exits is no line.

    Raises:
      OSError: the disk is full, for example; what was not written is discarded.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def progress_stream() -> TextIO:
    """Returns the stream for progress bars, which move the cursor by control characters."""
    return sys.stderr.raw if isinstance(sys.stderr, EscapedStream) else sys.stderr
