import numpy as np

from lts_jax.data import buckets


def test_buckets():
    height = np.array([480, 480, 640, 1, 641, 6000, 10])
    width = np.array([640, 640, 427, 1, 20, 8000, 8])
    groups = [np.array([0, 1]), *(np.array([i]) for i in range(2, 7))]
    result = buckets.buckets(groups, height, width)
    assert [b.canvas for b in result] == [(640, 640), (641, 24), (6000, 8000)]
    assert [[g.tolist() for g in b.groups] for b in result] == [
        [[0, 1], [2], [3], [6]],
        [[4]],
        [[5]],
    ]
    assert buckets.buckets(groups[2:3], height, width)[0].canvas == (640, 640)


def test_sizes_and_batches():
    assert buckets.fitting(1, 1) == buckets.fitting(640, 640) == (640, 640)
    assert buckets.fitting(641, 6000) == (1280, 10240)
    assert buckets.batch_size(32, (480, 640)) == buckets.batch_size(32, (640, 640)) == 32
    assert buckets.batch_size(32, (1280, 1280)) == 8
    assert buckets.batch_size(32, (10240, 10240)) == 1
