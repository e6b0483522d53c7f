"""Output streams that accept any text and escape control characters."""

import atexit
import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any, TextIO

# All of C0 and C1 except tab and newline, and the marks that change the text direction.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_CLOSED_PIPE = 128 + 13  # the exit status of a program killed by SIGPIPE


def printable(text: str) -> str:
    r"""Escapes control characters: ESC becomes the four characters `\x1b`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def _exit() -> None:
    sys.exit(_CLOSED_PIPE)


class EscapedStream:
    """A text stream that escapes control characters and exits quietly if its pipe is closed.

    All output of a command passes through it: tables, messages, errors, argparse's usage messages
    and tracebacks may all contain a sentence or a file name from an untrusted source.

    Attributes:
      on_closed: called when the reader closes the pipe, as `head` does; by default it raises
        SystemExit. Later output is discarded.
      raw: the underlying stream, for progress bars.
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
        except OSError:  # for example, the disk is full: report one error only
            _discard(self.raw)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


def _discard(stream: TextIO) -> None:
    """Redirects the stream's file descriptor to the null device and discards its buffer."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def prepare_streams() -> None:
    """Replaces stdout and stderr with `EscapedStream`s; every command calls it first.

    A stream that is closed at the start, as with `>&-`, stays closed: Python prints nothing to it.
    """
    atexit.register(_flush_quietly)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, EscapedStream):
            setattr(sys, name, EscapedStream(stream))


def _flush_quietly() -> None:
    """Prevents Python's error message about a closed pipe at exit."""
    try:
        getattr(sys.stdout, "raw", sys.stdout).flush()
    except BrokenPipeError:
        _discard(sys.stdout)
    except Exception:
        pass  # Python reports this error itself


def finish_streams() -> None:
    """Flushes stdout; every command calls it last, because Python exits with a traceback otherwise.

    Raises:
      OSError: for example, the disk is full; unwritten output is discarded.
    """
    if sys.stdout is not None:
        sys.stdout.flush()


def progress_stream() -> TextIO:
    """Returns the stream for progress bars, which need control characters to move the cursor."""
    return sys.stderr.raw if isinstance(sys.stderr, EscapedStream) else sys.stderr
