"""Prediction for many images in one call."""

import itertools
import threading

import jax
import numpy as np
import pytest

import lts_jax
from lts_jax.errors import NonFiniteOutputError
from tfds_refcoco import DataError

TEXTS = ("red square", "the second star from the left", "zebra crossing", "cross " * 99)


@pytest.fixture(scope="module")
def predictor(trained_run):
    return lts_jax.Predictor(trained_run)


def pictures(n):
    rng = np.random.default_rng(0)
    shapes = itertools.cycle([(30, 50), (64, 64), (7, 90)])
    return [rng.integers(0, 256, (*next(shapes), 3), np.uint8) for _ in range(n)]


def pairs_of_all_kinds():
    """More than one group of images with no, one or many sentences, and unreadable ones."""
    numbers = [1, 0, 3, 4, 1, 2, 11, 1, 2]
    texts = itertools.cycle(TEXTS)
    pairs = [
        (x, list(itertools.islice(texts, n)))
        for x, n in zip(pictures(len(numbers)), numbers, strict=True)
    ]
    pairs.insert(2, (b"no picture", ["star"]))
    pairs.insert(5, (pictures(1)[0], ["star", "?!"]))
    pairs.append(("absent.jpg", ["star"]))
    return pairs


def equal_those_of_one_by_one(predictor, pairs, batch_size):
    result = list(predictor.map(iter(pairs), batch_size=batch_size))
    assert len(result) == len(pairs)
    for (picture, texts), predictions in zip(pairs, result, strict=True):
        try:
            alone = predictor(picture, texts)
        except DataError as error:
            assert isinstance(predictions, DataError) and str(predictions) == str(error)
            continue
        assert [p.text for p in predictions] == texts
        for one, other in zip(predictions, alone, strict=True):
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_allclose(one.probability, other.probability, atol=1e-5)
            np.testing.assert_allclose(one.heatmap, other.heatmap, atol=1e-5)
            near = np.abs(other.probability - predictor.threshold) <= 1e-5
            assert (one.mask == other.mask)[~near].all()
            assert one.unknown_words == other.unknown_words
            assert one.unread_words == other.unread_words
    asked, means = set(), set()
    for (picture, _), predictions in zip(pairs, result, strict=True):
        if not isinstance(predictions, DataError):
            asked |= {(id(picture), p.text) for p in predictions}
            means |= {float(p.probability.mean()) for p in predictions}
    assert len(means) >= len(asked) > 10  # predictions are not mixed up


def test_equal_those_of_one_by_one(predictor):
    equal_those_of_one_by_one(predictor, pairs_of_all_kinds(), 3)
    equal_those_of_one_by_one(predictor, pairs_of_all_kinds(), None)


@pytest.mark.eight_devices
def test_on_eight_devices(predictor):
    pairs = pairs_of_all_kinds() * 2
    equal_those_of_one_by_one(predictor, pairs, 1)
    equal_those_of_one_by_one(predictor, pairs, 3)


def test_one_pair_and_none(predictor):
    assert list(predictor.map([], batch_size=3)) == []
    ((result,),) = predictor.map([(pictures(1)[0], "red star")], batch_size=3)
    assert result.text == "red star"


def test_it_reads_ahead_by_a_bounded_number_and_stops(predictor):
    taken = []

    def pairs():
        for number in itertools.count():
            taken.append(number)
            yield pictures(1)[0], ["red star"]

    before = threading.active_count()
    result = predictor.map(pairs(), batch_size=3)
    next(result)
    group = 3 * jax.local_device_count()
    ahead = max(group, predictor.config.data.threads)
    assert len(taken) == 2 * group + ahead  # yielded, computed and prefetched
    result.close()
    assert threading.active_count() == before


def test_an_error_of_the_callers_own_is_raised(predictor):
    def pairs():
        yield pictures(1)[0], ["red star"]
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        list(predictor.map(pairs(), batch_size=3))


def test_outputs_that_are_not_finite(predictor, monkeypatch):
    predictor.map([], batch_size=3)
    key = 3, jax.local_device_count()
    programs = predictor._compiled[key]

    def locate(features, batch):
        mask, heatmap, finite = programs.locate(features, batch)
        return mask, heatmap, finite & False

    monkeypatch.setitem(predictor._compiled, key, programs._replace(locate=locate))
    with pytest.raises(NonFiniteOutputError, match="'red star'"):
        list(predictor.map([(pictures(1)[0], "red star")], batch_size=3))


def test_an_invalid_batch_size(predictor):
    with pytest.raises(ValueError, match="batch_size=0"):
        predictor.map([], batch_size=0)
