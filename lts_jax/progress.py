"""What a run tells on the terminal."""

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lts_jax.data.tokenizer import Vocabulary
from lts_jax.metrics import METRIC_NAMES
from lts_jax.writers import format_table
from tfds_refcoco.reader import Dataset, Split


class Progress:
    """The line that tells how fast a run goes and when it ends."""

    def __init__(self, total_steps: int, batch_size: int):
        self._total, self._batch_size = total_steps, batch_size
        self._step: int | None = None
        self._time = time.perf_counter()

    def report(self, step: int, loss: float, epoch: float) -> dict[str, float]:
        """Prints the line and returns the speed since the last one.

        The first step compiles, so its line has a time and no speed.
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
        print(line, flush=True)
        self._step, self._time = step, now
        return speed

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what happens inside out of the speed."""
        start = time.perf_counter()
        yield
        self._time += time.perf_counter() - start


def print_data(dataset: Dataset, splits: Mapping[str, Split], vocabulary: Vocabulary) -> None:
    """Prints what splits hold, by name, and how much of it the vocabulary knows."""
    rows = []
    for name, split in splits.items():
        counts, coverage = split.counts, vocabulary.coverage(split.index.text)
        unknown = f"{coverage['unknown'] / max(1, coverage['words']):.2%}"
        rows.append([name, *map(str, (counts.images, counts.refs, counts.sentences)), unknown])
    print(f"data: {dataset.name} in {dataset.path}; vocabulary of {len(vocabulary.words)} words")
    print(format_table(("split", "images", "refs", "sentences", "unknown words"), rows), flush=True)


def print_results(results: Mapping[str, Mapping[str, Any]]) -> None:
    """Prints the metrics of each split as a table, in percent; a dash where there is none."""
    rows = [
        [
            name,
            *("-" if scores[k] is None else f"{100 * scores[k]:.2f}" for k in METRIC_NAMES),
            str(scores["sentences"]),
            str(scores["images"]),
        ]
        for name, scores in results.items()
    ]
    print(format_table(("%", *METRIC_NAMES, "sentences", "images"), rows), flush=True)


def print_intervals(intervals: Mapping[str, Mapping[str, Sequence[float] | None]]) -> None:
    """Prints the metrics' 95 % intervals of each split, in percent; a dash where there is none."""
    rows = []
    for name, of_split in intervals.items():
        pairs = (of_split[k] for k in METRIC_NAMES)
        rows.append(
            [name, *("-" if x is None else f"{100 * x[0]:.1f}-{100 * x[1]:.1f}" for x in pairs)]
        )
    print(format_table(("95 %", *METRIC_NAMES), rows), flush=True)
