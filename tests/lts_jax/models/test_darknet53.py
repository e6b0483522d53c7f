import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models.darknet53 import Darknet53


def shapes(model, image):
    return jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False))


def test_full_size_is_yolov3s_darknet53():
    variables = shapes(Darknet53(neck=False), jnp.zeros((1, 64, 64, 3)))
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"])
    kernels = [x for path, x in leaves if path[-1].key == "kernel"]
    assert len(kernels) == 52
    # The published 41,609,928 parameters of the ImageNet model, minus its 1024 → 1000 classifier.
    assert sum(x.size for _, x in leaves) == 41_609_928 - (1024 * 1000 + 1000)


def test_taps():
    image = jnp.zeros((2, 96, 64, 3))
    model = Darknet53()
    taps = jax.eval_shape(lambda: model.init_with_output(jax.random.key(0), image, train=False)[0])
    assert taps.stride8.shape == (2, 12, 8, 256)
    assert taps.stride16.shape == (2, 6, 4, 512)
    assert taps.stride32.shape == (2, 3, 2, 1024)


def test_neck_has_six_convolutions():
    image = jnp.zeros((1, 32, 32, 3))
    params = shapes(Darknet53(), image)["params"]
    necks = [name for name in params if name.startswith("neck")]
    assert len(necks) == 6
    assert "neck0_reduce" not in shapes(Darknet53(neck=False), image)["params"]


@pytest.mark.parametrize("shape", [(1, 40, 64, 3), (1, 64, 64, 4)])
def test_wrong_images_are_refused(shape):
    with pytest.raises(ValueError, match="multiples of 32"):
        Darknet53(width=2).init(jax.random.key(0), np.zeros(shape), train=False)
