"""Random backbone weights, which the tests write in all formats."""

import pytest

from lts_jax.pretrained.backbone import Backbone, load_backbone
from lts_jax.pretrained.darknet import write_darknet
from tests.lts_jax.helpers import yolov3
from tests.lts_jax.helpers.yolov3 import TINY

# Twelve blocks: names must be sorted as numbers.
NETWORK = yolov3.MINI._replace(stages=(1, 2, 12, 2, 4))


@pytest.fixture(scope="session")
def arrays():
    """Arrays of each convolution, by path and name."""
    return yolov3.draw(yolov3.all_convs(NETWORK, 18))


@pytest.fixture(scope="session")
def reference(arrays, tmp_path_factory) -> Backbone:
    """The same weights, read from a Darknet file."""
    path = tmp_path_factory.mktemp("reference") / "w"
    write_darknet(path, yolov3.numbers(arrays))
    return load_backbone(path, NETWORK)


@pytest.fixture(scope="module")
def tiny():
    arrays = yolov3.draw(yolov3.all_convs(TINY))
    return arrays, yolov3.numbers(arrays)
