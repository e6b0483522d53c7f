"""Predictions for a stream of images and sentences, in batches of fixed shapes."""

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np

from lts_jax.data.examples import Batch, Preprocessing
from lts_jax.inference.prediction import (
    Located,
    Photo,
    Phrase,
    Picture,
    Prediction,
    at_original_size,
    parse_all,
    read,
)
from lts_jax.inference.programs import Outputs, Programs
from tfds_refcoco import DataError

Pair = tuple[Picture, str | Sequence[str | Phrase]]


class _Job(NamedTuple):
    """An image, and its sentences."""

    photo: Photo
    phrases: list[Phrase]


class _Running(NamedTuple):
    """Images whose predictions the devices are computing.

    Attributes:
      jobs: the jobs in order, or the error of one.
      outputs: the outputs of each batch of sentences.
      rows: for each job, the batch and row of each of its sentences.
    """

    jobs: deque[_Job | DataError]
    outputs: list[Outputs]
    rows: list[list[tuple[int, int]]]


def predict_stream(
    programs: Programs,
    preprocessing: Preprocessing,
    threshold: float,
    pairs: Iterable[Pair],
    threads: int,
) -> Iterator[list[Prediction] | DataError]:
    """Yields the predictions of each pair in order, or the error of its image or sentence.

    While the devices compute one group of images, threads read the next one, and the results of
    the previous one are mapped to their original sizes.

    Args:
      programs: their numbers of images and sentences determine groups and batches.
      preprocessing: of images and sentences.
      threshold: of the masks.
      pairs: an image, and one sentence or several.
      threads: the number of threads that read and decode.

    Raises:
      NonFiniteOutputError: the network's outputs are not finite.
    """
    before: _Running | None = None
    size = programs.devices * programs.images
    with ThreadPoolExecutor(threads) as pool:
        jobs = _read_ahead(pool, pairs, preprocessing, max(size, threads))
        try:
            while group := list(itertools.islice(jobs, size)):
                running = _start(programs, preprocessing, group)
                if before is not None:
                    yield from _finish(before, preprocessing, threshold)
                before = running
            if before is not None:
                yield from _finish(before, preprocessing, threshold)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _read_ahead(
    pool: ThreadPoolExecutor, pairs: Iterable[Pair], preprocessing: Preprocessing, ahead: int
) -> Iterator[_Job | DataError]:
    """Yields the pairs in order, while threads read the next ones."""

    def load(pair: Pair) -> _Job | DataError:
        picture, texts = pair
        try:
            phrases = parse_all(texts)
            return _Job(read(picture, preprocessing), phrases)
        except DataError as error:
            return error

    reading: deque[Future[_Job | DataError]] = deque()
    source = iter(pairs)
    reading.extend(pool.submit(load, pair) for pair in itertools.islice(source, ahead))
    while reading:
        job = reading.popleft().result()
        reading.extend(pool.submit(load, pair) for pair in itertools.islice(source, 1))
        yield job


def _start(
    programs: Programs, preprocessing: Preprocessing, group: Sequence[_Job | DataError]
) -> _Running:
    """Dispatches a group to the devices, without waiting for the results."""
    size, k = preprocessing.image_size, programs.images
    images = np.zeros((programs.devices * k, size, size, 3), np.uint8)
    empty = preprocessing.sentence([]) | {"image": np.int32(0)}
    of_device: list[list[Batch]] = [[] for _ in range(programs.devices)]
    rows: list[list[tuple[int, int]]] = []
    for number, job in enumerate(group):
        rows.append([])
        if isinstance(job, DataError):
            continue
        images[number] = job.photo.fitted
        device, image = divmod(number, k)
        for phrase in job.phrases:
            at, row = divmod(len(of_device[device]), programs.sentences)
            rows[-1].append((at, device * programs.sentences + row))
            of_device[device].append(
                preprocessing.sentence(phrase.words) | {"image": np.int32(image)}
            )
    n = -(-max(map(len, of_device)) // programs.sentences)
    for sentences in of_device:
        sentences += [empty] * (n * programs.sentences - len(sentences))
    outputs = []
    if n:
        features = programs.encode(images)
        for start in range(0, n * programs.sentences, programs.sentences):
            parts = [s for d in of_device for s in d[start : start + programs.sentences]]
            batch = {name: np.stack([part[name] for part in parts]) for name in empty}
            outputs.append(programs.locate(features, batch))
    return _Running(deque(group), outputs, rows)


def _finish(
    running: _Running, preprocessing: Preprocessing, threshold: float
) -> Iterator[list[Prediction] | DataError]:
    outputs = jax.device_get(running.outputs)
    for rows in running.rows:
        job = running.jobs.popleft()  # releases its pixels
        if isinstance(job, DataError):
            yield job
            continue
        found = []
        for phrase, (batch, row) in zip(job.phrases, rows, strict=True):
            mask, heatmap, finite = outputs[batch]
            located = Located(
                mask[row], None if heatmap is None else heatmap[row], bool(finite[row])
            )
            found.append(at_original_size(located, job.photo, phrase, preprocessing, threshold))
        yield found
