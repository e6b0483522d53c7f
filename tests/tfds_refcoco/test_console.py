"""Escaping of terminal output, and closed pipes."""

import io
import os
import subprocess
import sys

import pytest

from tfds_refcoco.console import EscapedStream, printable, progress_stream

HOSTILE = "\x1b[2Jred\r\x9b1m\u202eelttel \x7f\x00"


def test_control_characters_are_escaped():
    assert printable(HOSTILE) == "\\x1b[2Jred\\r\\x9b1m\\u202eelttel \\x7f\\x00"
    text = "second λ × “left”\t红色的杯子 שלום\n"
    assert printable(text) == text


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("utf-8", "λ × \\udcff".encode()),
        ("ascii", rb"\u03bb \xd7 \udcff"),
        ("latin-1", b"\\u03bb \xd7 \\udcff"),
    ],
)
def test_a_stream_escapes_unencodable_text(encoding, shown):
    raw = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    stream = EscapedStream(raw)
    print("λ × \udcff", file=stream, flush=True)
    assert raw.buffer.getvalue() == shown + b"\n"
    assert stream.encoding == encoding


def test_progress_bars_move_the_cursor(monkeypatch):
    raw = io.StringIO()
    monkeypatch.setattr(sys, "stderr", EscapedStream(raw))
    progress_stream().write("\r50 %")
    sys.stderr.write("\r50 %")
    sys.stderr.writelines(["a\x1b", "b"])
    assert raw.getvalue() == "\r50 %\\r50 %a\\x1bb"


def python(repo_root, code, **options):
    code = f"from tfds_refcoco.console import *; prepare_streams()\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code], cwd=repo_root, stderr=subprocess.PIPE, **options
    )


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_closed_pipe_exits_quietly(repo_root, lines):
    """Like `| head`, before the buffered first line or in the middle of the output."""
    read, write = os.pipe()
    os.close(read)
    process = python(repo_root, f"for _ in range({lines}): print('x' * 9)", stdout=write)
    os.close(write)
    assert process.communicate(timeout=60)[1] == b""
    assert process.returncode == (141 if lines > 1 or os.environ.get("PYTHONUNBUFFERED") else 0)


def test_the_handler_of_a_closed_pipe(repo_root):
    """Training saves and exits; its further output is discarded."""
    read, write = os.pipe()
    os.close(read)
    code = (
        "import sys\nsys.stdout.on_closed = lambda: print('closed', file=sys.stderr)\n"
        "for _ in range(100_000): print('x' * 9)\nsys.exit(5)"
    )
    process = python(repo_root, code, stdout=write)
    os.close(write)
    assert process.communicate(timeout=60)[1] == b"closed\n"
    assert process.returncode == 5


def test_a_full_disk_is_reported_once(repo_root):
    code = "try: print('x'); finish_streams()\nexcept OSError as e: sys.exit(f'error: {e}')"
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        process = python(repo_root, f"import sys\n{code}", stdout=full)
    message = process.communicate(timeout=60)[1].decode()
    assert message.startswith("error: ") and message.count("\n") == 1
    assert process.returncode == 1


def test_closed_streams(repo_root):
    command = [sys.executable, "-m", "tfds_refcoco", "stats", "--out=x", "--dataset=shapes"]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command], cwd=repo_root, check=False, timeout=60
    )
    assert done.returncode == 1
