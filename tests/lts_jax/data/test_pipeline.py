import itertools

import numpy as np
import pytest

from lts_jax.data import buckets, pipeline
from lts_jax.data.examples import Preprocessing, read_mask
from lts_jax.data.sampler import HostShare, TrainingOrder
from lts_jax.data.vocabulary import UNKNOWN, Vocabulary
from lts_jax.errors import ConfigError
from tfds_refcoco.records.split import Split


@pytest.fixture(scope="module")
def train(shapes_data):
    return shapes_data.split("train")


def make_preprocessing(split, **changes):
    vocabulary = Vocabulary.build(split.index.text)
    return Preprocessing(vocabulary, image_size=64, max_words=12, **changes)


def loader(split, *, seed=0, unit="sentences", per_image=1, threads=2, batch_size=4, **of_host):
    return pipeline.train_batches(
        split,
        pipeline.training_order(split, seed, unit, per_image),
        make_preprocessing(split),
        batch_size=batch_size,
        threads=threads,
        **of_host,
    )


def batches(split, n, **options):
    return list(itertools.islice(loader(split, **options), n))


def assert_same(batches, expected):
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for name, value in batch.items():
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def test_examples_have_the_documented_layout(train):
    batch = batches(train, 1)[0]
    assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
        "image": ((4, 64, 64, 3), "uint8"),
        "tokens": ((4, 12), "int32"),
        "length": ((4,), "int32"),
        "truth4": ((4, 16, 16), "uint8"),
        "truth8": ((4, 8, 8), "uint8"),
    }
    assert batch["truth4"].any(axis=(1, 2)).all()


def sentences_of(batches):
    return [tuple(tokens) for batch in batches for tokens in batch["tokens"].tolist()]


def test_an_epoch_is_every_sentence_once(train):
    vocabulary = Vocabulary.build(train.index.text)
    n = len(train.index.text)
    expected = sorted(tuple(vocabulary.encode(text, 12)[0].tolist()) for text in train.index.text)
    seen = sentences_of(batches(train, 2 * n, batch_size=1))
    assert sorted(seen[:n]) == sorted(seen[n:]) == expected
    assert seen[:n] != seen[n:]  # the next epoch has a different order


@pytest.mark.parametrize("unit", ["sentences", "refs"])
def test_batches_follow_the_order_for_any_number_of_threads(train, unit):
    preprocessing = make_preprocessing(train)
    order = TrainingOrder(train.index.ref_id, 4, unit)
    n = order.epoch_length // 12 + 2  # more than one epoch
    rows = [[order[12 * b + i] for i in range(12)] for b in range(n)]
    examples = [[preprocessing.train_batch(train, [row]) for row in of_batch] for of_batch in rows]
    expected = [{k: np.concatenate([e[k] for e in batch]) for k in batch[0]} for batch in examples]
    for threads in (1, 2, 8):
        options = {"seed": 4, "unit": unit, "threads": threads, "batch_size": 12}
        assert_same(batches(train, n, **options), expected)


@pytest.mark.parametrize("unit", ["sentences", "refs"])
def test_sentences_of_an_image_share_it(train, unit):
    preprocessing = make_preprocessing(train)
    order = pipeline.training_order(train, 4, unit, per_image=3)
    n = order.epoch_length // 12 + 2
    options = {"seed": 4, "unit": unit, "batch_size": 12, "per_image": 3}
    for number, batch in enumerate(batches(train, n, **options)):
        rows = HostShare(order, 12)[number]
        assert rows == [order[12 * number + i] for i in range(12)]
        assert len(batch["image"]) == 4
        expected = [preprocessing.train_batch(train, [row]) for row in rows]
        assert_same(
            [batch | {"image": np.repeat(batch["image"], 3, axis=0)}],
            [{k: np.concatenate([e[k] for e in expected]) for k in batch}],
        )
        if unit == "sentences":
            for group in np.split(np.array(rows), 4):
                available = (train.index.record == train.index.record[group[0]]).sum()
                assert len(set(group.tolist())) == min(3, available)


@pytest.mark.parametrize(("hosts", "per_image"), [(2, 1), (3, 1), (4, 1), (2, 3)])
def test_hosts_together_read_the_batches_of_one(train, hosts, per_image):
    one = batches(train, 5, batch_size=12, per_image=per_image)
    options = {"batch_size": 12, "per_image": per_image}
    parts = [
        batches(train, 5, **options, host=host, hosts=hosts, threads=1 + host)
        for host in range(hosts)
    ]
    joined = [
        {name: np.concatenate([part[name] for part in of_batch]) for name in of_batch[0]}
        for of_batch in zip(*parts, strict=True)
    ]
    assert_same(joined, one)


def test_a_host_decodes_only_its_share(train, monkeypatch):
    read = []
    train = Split(train.parts)  # threads of other tests may still read from the original
    record = train.record
    monkeypatch.setattr(train, "record", lambda n: read.append(n) or record(n))
    dataset = loader(train, batch_size=12, host=2, hosts=3, threads=1)
    next(iter(dataset))
    order = TrainingOrder(train.index.ref_id, 0, "sentences")
    own = [order[12 * batch + 8 + i] for batch in range(9) for i in range(4)]
    seen = list(read)
    assert seen == train.index.record[own[: len(seen)]].tolist()  # batches are prefetched


def test_a_batch_that_does_not_divide_over_the_hosts_is_an_error(train):
    with pytest.raises(ConfigError, match=r"batch_size=4 .* 3 hosts: set 3 or 6"):
        loader(train, host=1, hosts=3)
    with pytest.raises(ConfigError, match=r"2 hosts × train.sentences_per_image=4: set 8 or 16"):
        loader(train, batch_size=12, host=1, hosts=2, per_image=4)


def test_an_epoch_of_refs_has_one_sentence_of_each(train):
    n = pipeline.training_order(train, unit="refs").epoch_length
    assert n == train.counts.refs == len(np.unique(train.index.ref_id))
    refs_of = {}
    vocabulary = Vocabulary.build(train.index.text)
    for ref, text in zip(train.index.ref_id, train.index.text, strict=True):
        refs_of.setdefault(tuple(vocabulary.encode(text, 12)[0].tolist()), set()).add(int(ref))
    first, second = (
        sentences_of(batches(train, 2 * n, unit="refs", batch_size=1))[part]
        for part in (slice(n), slice(n, None))
    )
    # If a text belongs to only one ref, an epoch must contain it at most once.
    for epoch in (first, second):
        certain = [ref for s in epoch if len(refs_of[s]) == 1 for ref in refs_of[s]]
        assert len(certain) == len(set(certain)) > n // 3
    assert sorted(first) != sorted(second)  # different sentences of the same objects


@pytest.mark.parametrize("unit", ["sentences", "refs"])
def test_iterator_resumes_from_its_state(train, unit):
    first = iter(loader(train, seed=3, unit=unit, threads=3, batch_size=12))
    per_epoch = pipeline.training_order(train, unit=unit).epoch_length // 12
    for _ in range(per_epoch - 1):
        next(first)
    state = first.get_state()
    rest = [next(first) for _ in range(4)]  # beyond the end of the epoch
    second = iter(loader(train, seed=3, unit=unit, threads=1, batch_size=12))
    second.set_state(state)
    assert_same([next(second) for _ in range(4)], rest)
    # The state counts batches, so a run can resume with more hosts.
    last = iter(loader(train, seed=3, unit=unit, batch_size=12, host=1, hosts=2))
    last.set_state(state)
    halves = [{name: value[6:] for name, value in batch.items()} for batch in rest]
    assert_same([next(last) for _ in range(4)], halves)


def test_hidden_sentences_keep_only_their_length(train):
    open_, hidden = make_preprocessing(train), make_preprocessing(train, hide_sentence=True)
    for row in range(8):
        seen, blind = (
            {name: values[0] for name, values in p.train_batch(train, [row]).items()}
            for p in (open_, hidden)
        )
        length = seen["length"]
        assert blind["length"] == length
        assert (blind["tokens"][:length] == UNKNOWN).all() and not blind["tokens"][length:].any()
        np.testing.assert_array_equal(blind["image"], seen["image"])
        assert (seen["tokens"][:length] != UNKNOWN).all()


def evaluated(split, batch_size):
    preprocessing = make_preprocessing(split)
    index, groups = split.index, pipeline.rows_by_image(split)
    (bucket,) = buckets.buckets(groups, index.height, index.width)
    batches = pipeline.eval_batches(
        split,
        preprocessing,
        bucket.groups,
        canvas=bucket.canvas,
        batch_size=batch_size,
        threads=3,
    )
    return bucket.canvas, list(batches)


def test_evaluation_sees_every_row_once_at_original_size(shapes_data):
    split = shapes_data.split("val+testA")
    index = split.index
    preprocessing = make_preprocessing(split)
    batch_size = 7
    canvas, batches = evaluated(split, batch_size)
    assert len(split) % batch_size and len(index) % batch_size  # both need padding
    seen = []
    for images, sentences in batches:
        assert images["image"].shape == (batch_size, 64, 64, 3)
        for batch in sentences:
            assert {k: (v.shape, v.dtype.name) for k, v in batch.items()} == {
                "tokens": ((batch_size, 12), "int32"),
                "length": ((batch_size,), "int32"),
                "image": ((batch_size,), "int32"),
                "truth": ((batch_size, canvas[0], canvas[1] // 8), "uint8"),
                "row": ((batch_size,), "int32"),
            }
            for i, row in enumerate(batch["row"]):
                if row < 0:
                    continue
                seen.append(int(row))
                record = split.record(int(index.record[row]))
                h, w = index.height[row], index.width[row]
                image, placement = preprocessing.image(record)
                np.testing.assert_array_equal(images["image"][batch["image"][i]], image)
                assert tuple(images["placement"][batch["image"][i]]) == placement
                assert placement[:2] == (h, w)
                truth = np.unpackbits(batch["truth"][i], axis=1, count=canvas[1])
                mask = read_mask(record, index.sentence[row], h, w)
                assert mask.any()
                np.testing.assert_array_equal(truth[:h, :w], mask)
                assert truth.sum() == mask.sum()
                tokens, length = preprocessing.vocabulary.encode(index.text[row], 12)
                np.testing.assert_array_equal(batch["tokens"][i], tokens)
                assert batch["length"][i] == length
    assert seen == list(range(len(index)))


def test_rows_of_joined_splits_are_grouped_by_record(shapes_data):
    split = shapes_data.split("val+testA")
    groups = pipeline.rows_by_image(split)
    assert len(groups) == len(split)
    np.testing.assert_array_equal(np.concatenate(groups), np.arange(len(split.index)))
    for rows in groups:
        assert len(set(split.index.record[rows])) == 1


@pytest.mark.timeout(60)
@pytest.mark.parametrize("error", [SystemExit, MemoryError, OSError])
def test_an_error_in_a_reader_thread_is_raised(train, monkeypatch, error):
    read, calls = Preprocessing.train_batch, itertools.count()

    def train_batch(*args):
        if next(calls) > 3:
            raise error("in a thread")
        return read(*args)

    monkeypatch.setattr(Preprocessing, "train_batch", train_batch)
    with pytest.raises(error, match="in a thread"):
        batches(train, 20)
