"""Training logs: console output, TensorBoard and metrics.jsonl."""

import contextlib
import io
import json
import logging
import shutil
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from PIL import Image

from lts_jax.data.vocabulary import Vocabulary
from lts_jax.data.word_pieces import WordPieces
from lts_jax.evaluation.schema import AGAIN, RUN, log_line
from lts_jax.io.console import format_table
from lts_jax.io.files import name_in_errors, write_text
from lts_jax.io.json_files import read_json, read_json_lines
from tfds_refcoco.records.joint import JointDataset
from tfds_refcoco.records.reader import Dataset
from tfds_refcoco.records.split import Split

logger = logging.getLogger(__name__)

_PICTURES = "pictures"  # prefix of the TensorBoard file with images


class MetricWriter:
    """Writes scalars by step to TensorBoard and to `metrics.jsonl`, one line per call.

    Both log each step once, even if the run was interrupted: entries after the step from which it
    resumes are dropped, because those steps are repeated. TensorBoard drops them when reading.

    Args:
      workdir: the run's folder.
      start_step: the step from which the run resumes. Scalars already logged at this step are not
        logged again: the run may have been killed while logging it.
    """

    def __init__(self, workdir: Path, start_step: int):
        # Deferred: tensorboardX imports torch if it is installed, which takes seconds.
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._path = workdir / "metrics.jsonl"
        kept = [x for x in _read_log(self._path) if x["step"] <= start_step]
        write_text(self._path, "".join(json.dumps(scalars) + "\n" for scalars in kept))
        self._file = self._path.open("a", encoding="utf-8")
        # Not SummaryWriter: if its thread dies, for example of a full disk, its queue blocks.
        (workdir / "tensorboard").mkdir(exist_ok=True)
        self._board = EventsWriter(str(workdir / "tensorboard" / "events"))
        self._board.write_event(
            Event(step=start_step, session_log=SessionLog(status=SessionLog.START))
        )
        self._start: tuple[int, set[str]] = start_step, set()
        for scalars in kept:  # the START event also drops the events of the start step
            if scalars.pop("step") == start_step:
                self._start[1].update(scalars)
                self._write_events(start_step, scalars)

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Logs scalars at a step."""
        if step == self._start[0] and self._start[1].issuperset(scalars):
            return
        with name_in_errors(self._path):
            self._file.write(json.dumps({"step": step, **scalars}) + "\n")
            self._file.flush()
        self._write_events(step, scalars)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Writes a run's config to TensorBoard, as text."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import text

        shown = textwrap.indent(json.dumps(config, indent=1), " " * 4)  # Markdown's code block
        with name_in_errors(self._path.with_name("tensorboard")):
            self._board.write_event(
                Event(wall_time=time.time(), step=self._start[0], summary=text("config", shown))
            )
            self._board.flush()

    def _write_events(self, step: int, scalars: Mapping[str, float]) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        with name_in_errors(self._path.with_name("tensorboard")):
            for name, value in scalars.items():
                self._board.write_event(
                    Event(wall_time=time.time(), step=step, summary=scalar(name, value))
                )
            self._board.flush()

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *exc: object) -> None:
        for file in (self._file, self._board):
            with contextlib.suppress(OSError):  # each write was flushed or raised an error
                file.close()


def _read_log(path: Path) -> list[dict[str, Any]]:
    """Reads the valid lines of a metrics.jsonl; a killed run leaves an incomplete last line.

    If other lines are damaged, a copy of the file is kept, because the file is rewritten.
    """
    if not path.exists():
        return []
    kept, bad = read_json_lines(path, log_line)
    if bad and bad != [len(kept) + 1]:
        copy = path.with_name(f"{path.name}.damaged")
        shutil.copyfile(path, copy)
        listed = ", ".join(map(str, bad))
        logger.warning(
            "%s: invalid line %s removed; the original file is %s", path, listed, copy.name
        )
    return kept


class _NoWriter(MetricWriter):
    """Writes nothing; used by all processes except the first."""

    def __init__(self) -> None:
        pass

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Does nothing."""

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Does nothing."""

    def __exit__(self, *exc: object) -> None:
        pass


def open_writer(workdir: Path, start_step: int) -> MetricWriter:
    """Opens the log of a run; in processes other than the first, the writer does nothing."""
    return MetricWriter(workdir, start_step) if jax.process_index() == 0 else _NoWriter()


def show_pictures(workdir: Path, splits: Iterable[str]) -> None:
    """Adds an evaluation's images, gallery.png and maps.png, to a run's TensorBoard.

    They are written to a separate file, which replaces earlier ones. Only the first process writes.

    Args:
      workdir: the run's folder.
      splits: the evaluated splits.
    """
    if jax.process_index() > 0:
        return
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

    folder = workdir / "tensorboard"
    folder.mkdir(exist_ok=True)
    for old in folder.glob(f"{_PICTURES}.out.tfevents.*"):
        old.unlink()
    with name_in_errors(folder), contextlib.closing(EventsWriter(str(folder / _PICTURES))) as board:
        for split in splits:
            evaluated = workdir / "eval" / split
            step = read_json(evaluated / "run.json", RUN, AGAIN)["step"]
            for name in ("gallery", "maps"):
                if (evaluated / f"{name}.png").exists():
                    data = (evaluated / f"{name}.png").read_bytes()
                    with Image.open(io.BytesIO(data), formats=("PNG",)) as picture:
                        w, h = picture.size
                    image = Summary.Image(
                        height=h, width=w, colorspace=3, encoded_image_string=data
                    )
                    values = [Summary.Value(tag=f"{split}/{name}", image=image)]
                    summary = Summary(value=values)
                    board.write_event(Event(wall_time=time.time(), step=step, summary=summary))


class Progress:
    """Reports the training speed and the remaining time."""

    def __init__(self, total_steps: int, batch_size: int):
        self._total, self._batch_size = total_steps, batch_size
        self._step: int | None = None
        self._time = time.perf_counter()

    def report(self, step: int, loss: float, epoch: float) -> dict[str, float]:
        """Logs a progress line and returns the speed since the previous one.

        The first step includes compilation, so its line reports the time instead of the speed.
        """
        now = time.perf_counter()
        line = f"step {step}/{self._total}  epoch {epoch:.2f}  loss {loss:.1f}  "
        speed = {}
        if self._step is None:
            line += f"first step in {now - self._time:.0f} s"
        else:
            steps_per_second = (step - self._step) / (now - self._time)
            sentences_per_second = steps_per_second * self._batch_size
            eta = round((self._total - step) / steps_per_second)
            line += (
                f"{steps_per_second:.2f} steps/s  {sentences_per_second:.1f} sentences/s  "
                f"ETA {eta // 3600}:{eta // 60 % 60:02}:{eta % 60:02}"
            )
            speed = {
                "steps_per_second": steps_per_second,
                "sentences_per_second": sentences_per_second,
            }
        logger.info(line)
        self._step, self._time = step, now
        return speed

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Excludes the time spent in the block from the speed."""
        start = time.perf_counter()
        yield
        self._time += time.perf_counter() - start


def log_data(
    dataset: Dataset | JointDataset,
    splits: Mapping[str, Split],
    vocabulary: Vocabulary | WordPieces,
) -> None:
    """Logs the size of each split and its share of unknown words."""
    rows = []
    for name, split in splits.items():
        counts, coverage = split.counts, vocabulary.coverage(split.index.text)
        unknown = f"{coverage['unknown'] / max(1, coverage['words']):.2%}"
        rows.append([name, *map(str, (counts.images, counts.refs, counts.sentences)), unknown])
    words = len(vocabulary.words)
    logger.info("data: %s in %s; vocabulary of %d words", dataset.name, dataset.path, words)
    logger.info(format_table(("split", "images", "refs", "sentences", "unknown words"), rows))
