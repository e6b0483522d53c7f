"""Combinations of backbones, sentence encoders and locators."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from lts_jax.models import LTS
from lts_jax.models.backbones import BACKBONES
from lts_jax.models.locator import LOCATORS
from tests.lts_jax.helpers.tiny import TINY
from tests.lts_jax.models.backbones.test_backbones import STAGES

ALL_LOCATORS = (*LOCATORS, "none")
# Each backbone, encoder and locator at least once. The slow tier tests each backbone and each
# locator with both encoders; as backbones share one interface, more combinations are unnecessary.
QUICK = {
    ("darknet53", "bert", "filter"),
    ("efficientnet_lite0", "gru", "word_filter"),
    ("convnext_tiny", "bert", "none"),
    ("convnext_tiny", "lstm", "filter"),
    ("swin_tiny_window12", "bert", "word_filter"),
    ("resnet50_dilated", "gru", "transformer"),
}


@pytest.mark.parametrize(
    ("backbone", "text", "locate"),
    [
        *sorted(QUICK),
        *(
            pytest.param(*names, marks=pytest.mark.slow)
            for i, (backbone, text) in enumerate(itertools.product(BACKBONES, ("gru", "bert")))
            for names in [(backbone, text, ALL_LOCATORS[i // 2 % len(ALL_LOCATORS)])]
            if names not in QUICK
        ),
    ],
)
def test_a_network_of_these_parts(backbone, text, locate):
    sizes = {
        "backbone_width": 4,
        "backbone_stages": STAGES[BACKBONES[backbone].family],
        "bert_hidden": 8,
        "bert_layers": 1,
        "bert_heads": 2,
        "bert_intermediate": 8,
    }
    model = LTS(
        vocab_size=9, image_encoder=backbone, text_encoder=text, **TINY | sizes | {"locate": locate}
    )
    # Two images with two sentences each.
    images = jax.ShapeDtypeStruct((2, 96, 64, 3), jnp.float32)
    tokens = jax.ShapeDtypeStruct((4, 7), jnp.int32)
    lengths = jax.ShapeDtypeStruct((4,), jnp.int32)

    def run(images, tokens, lengths):
        outputs, variables = model.init_with_output(
            jax.random.key(0), images, tokens, lengths, train=False
        )
        prepared = model.apply(
            variables,
            model.apply(variables, images, train=False, method="encode_image"),
            method="prepare",
        )
        features = model.apply(variables, tokens, lengths, method="encode_text")
        return outputs, model.apply(variables, prepared, features, train=False, method="refer")

    once, again = jax.eval_shape(run, images, tokens, lengths)
    assert once.mask.shape == again.mask.shape == (4, 24, 16)
    if locate != "none":
        assert once.heatmap.shape == (4, 1, 12, 8)
