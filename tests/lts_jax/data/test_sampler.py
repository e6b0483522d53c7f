import itertools

import numpy as np
import pytest

from lts_jax.data.sampler import HostShare, TrainingOrder

REF_ID = np.array([7, 7, 3, 9, 3, 7, 11, 9, 3, 7, 2])  # 11 sentences about 5 refs
IMAGE = np.array([5, 5, 8, 5, 8, 5, 0, 5, 8, 5, 8])  # 3 images: refs 7 and 9, 3 and 2, 11


def reference(seed, epoch, unit="sentences"):
    """Returns the order by its definition: sort by the first n draws, choose by the next n."""
    refs = {}
    for row, ref in enumerate(REF_ID.tolist()):
        refs.setdefault(row if unit == "sentences" else ref, []).append(row)
    things = [refs[key] for key in sorted(refs)]
    drawn = iter(np.random.PCG64([seed, epoch]).random_raw(2 * len(things)).tolist())
    keys = list(itertools.islice(drawn, len(things)))
    rows = [of_ref[next(drawn) % len(of_ref)] for of_ref in things]
    return [row for _, row in sorted(zip(keys, rows, strict=True))]


@pytest.mark.parametrize("unit", ["sentences", "refs"])
@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_order_equals_the_reference(seed, unit):
    order = TrainingOrder(REF_ID, seed, unit)
    expected = [row for epoch in range(6) for row in reference(seed, epoch, unit)]
    assert [order[i] for i in range(len(expected))] == expected
    # The order does not depend on the start, or on previous accesses.
    for place in (len(expected) - 1, 0, len(expected) // 2):
        assert TrainingOrder(REF_ID, seed, unit)[place] == order[place] == expected[place]


def reference_in_groups(seed, epoch, unit, per_image):
    """Returns the order in groups: sort each image's items, split, pad, sort the groups."""
    draws = np.random.PCG64([seed, epoch])
    refs = REF_ID if unit == "refs" else np.arange(len(REF_ID))
    keys, choices = draws.random_raw(2 * len(set(refs.tolist()))).reshape(2, -1).tolist()
    images = {}
    for ref, key, choice in zip(sorted(set(refs.tolist())), keys, choices, strict=True):
        rows = np.flatnonzero(refs == ref).tolist()
        row = rows[choice % len(rows)]
        images.setdefault(int(IMAGE[row]), []).append((key, row))
    groups = []
    for image in sorted(images):
        rows = [row for _, row in sorted(images[image])]
        for begin in range(0, len(rows), per_image):
            group = rows[begin : begin + per_image]
            missing = itertools.islice(itertools.cycle(rows), per_image - len(group))
            groups.append([*group, *missing])
    order = np.argsort(draws.random_raw(len(groups)))
    return [row for i in order for row in groups[i]]


@pytest.mark.parametrize("unit", ["sentences", "refs"])
@pytest.mark.parametrize("per_image", [2, 3, 4, 9])
def test_order_of_groups_equals_the_reference(unit, per_image):
    order = TrainingOrder(REF_ID, 6, unit, IMAGE, per_image)
    expected = [row for e in range(4) for row in reference_in_groups(6, e, unit, per_image)]
    assert order.epoch_length * 4 == len(expected)
    assert [order[i] for i in range(len(expected))] == expected
    for epoch in range(4):
        rows = order.epoch(epoch)
        assert (np.ptp(IMAGE[rows.reshape(-1, per_image)], axis=1) == 0).all()
        things = np.arange(11) if unit == "sentences" else REF_ID
        assert set(things[rows].tolist()) == set(things.tolist())


def test_the_stream_is_stable():
    """Runs that are resumed with another NumPy version keep their order."""
    assert reference(0, 0) == [3, 2, 1, 8, 6, 0, 7, 4, 10, 5, 9]
    assert reference(0, 1, "refs") == [6, 8, 0, 10, 7]


def test_each_epoch_is_a_permutation_and_all_differ():
    rows = np.arange(1000)
    epochs = {
        (seed, e): TrainingOrder(rows, seed, "sentences").epoch(e)
        for seed in range(3)
        for e in range(3)
    }
    for epoch in epochs.values():
        np.testing.assert_array_equal(np.sort(epoch), rows)
    # Epochs also differ across seeds, unlike with seed + epoch as the seed.
    for a, b in itertools.combinations(epochs.values(), 2):
        assert (a == b).mean() < 0.02


def test_sentences_of_a_ref_are_equally_likely():
    order = TrainingOrder(REF_ID, 5, "refs")
    counts = np.bincount(np.concatenate([order.epoch(e) for e in range(2000)]), minlength=11)
    expected = np.array([2000 / (ref == REF_ID).sum() for ref in REF_ID])
    # Five standard deviations of a binomial distribution.
    deviation = np.sqrt(expected * (1 - expected / 2000))
    assert (np.abs(counts - expected) <= 5 * deviation).all()


@pytest.mark.parametrize("hosts", [1, 2, 3, 4])
def test_concatenated_hosts_equal_a_single_host(hosts):
    order = TrainingOrder(REF_ID, 1, "sentences")
    shares = [HostShare(order, 12, host, hosts) for host in range(hosts)]
    for batch in range(5):
        together = [row for share in shares for row in share[batch]]
        assert together == [order[batch * 12 + i] for i in range(12)]


DATASET = (REF_ID > 7).astype(int)  # refs 2, 3 and 7 in eight sentences, refs 9 and 11 in three


def reference_mix(seed, epoch, unit, mix):
    """Returns the order of a mix: each dataset's share of the items, by the first draws."""
    draws = np.random.PCG64([seed, epoch])
    refs = REF_ID if unit == "refs" else np.arange(len(REF_ID))
    things = [np.flatnonzero(refs == ref).tolist() for ref in sorted(set(refs.tolist()))]
    keys, choices = draws.random_raw(2 * len(things)).reshape(2, -1).tolist()
    of_set = {0: [], 1: []}
    for _, thing in sorted(zip(keys, things, strict=True)):
        of_set[int(DATASET[thing[0]])].append(thing)
    first = round(len(things) * mix[0] / sum(mix))
    taken = list(itertools.islice(itertools.cycle(of_set[0]), first))
    taken += itertools.islice(itertools.cycle(of_set[1]), len(things) - first)
    rows = [thing[choice % len(thing)] for thing, choice in zip(taken, choices, strict=True)]
    return [rows[i] for i in np.argsort(draws.random_raw(len(rows)))]


@pytest.mark.parametrize("unit", ["sentences", "refs"])
@pytest.mark.parametrize("mix", [(1, 1), (0.3, 0.7), (4.0, 1), (8, 3)])
def test_order_of_a_mix_equals_the_reference(unit, mix):
    order = TrainingOrder(REF_ID, 5, unit, IMAGE, dataset=DATASET, mix=mix)
    n = order.epoch_length
    assert n == (11 if unit == "sentences" else 5)
    expected = [row for epoch in range(5) for row in reference_mix(5, epoch, unit, mix)]
    assert [order[i] for i in range(len(expected))] == expected
    # The counts of a dataset's sentences differ by at most one.
    if unit == "sentences":
        times = np.bincount(expected[:n], minlength=n)
        assert all(np.ptp(times[k == DATASET]) <= 1 for k in (0, 1))
