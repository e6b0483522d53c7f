"""Attention between cells, and from cells to words."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.config.validation import check_config
from lts_jax.errors import ConfigError
from lts_jax.models import LTS
from lts_jax.models.attention import CellAttention
from lts_jax.models.text_encoder import TextFeatures
from lts_jax.models.transformer import sine_position_encoding
from tests.lts_jax.helpers.tiny import TINY

RNG = np.random.default_rng(0)
CELLS = RNG.normal(0, 1, (2, 3, 4, 8)).astype(np.float32)
VALID = np.arange(5) < np.array([[5], [2]])
TEXT = TextFeatures(RNG.normal(0, 1, (2, 5, 6)).astype(np.float32), VALID, np.zeros((2, 6)))


@functools.cache
def make(words):
    layers = CellAttention(2, words)
    init = jax.jit(functools.partial(layers.init, train=False))
    params = init(jax.random.key(0), CELLS, TEXT)
    loud = jax.tree.map(lambda x: jnp.asarray(RNG.normal(0, 0.4, x.shape), jnp.float32), params)
    return jax.jit(functools.partial(layers.apply, train=False)), params, loud


@pytest.mark.parametrize("words", [False, True])
def test_it_initially_has_no_effect(words):
    apply, params, loud = make(words)
    np.testing.assert_array_equal(apply(params, CELLS, TEXT), CELLS)
    assert (np.asarray(apply(loud, CELLS, TEXT)) != CELLS).all()


def test_it_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle of attention")
    apply, _, loud = make(True)

    def tensor(x):
        return torch.tensor(np.asarray(x))

    def norm(x, p):
        return torch.nn.functional.layer_norm(x, (8,), tensor(p["scale"]), tensor(p["bias"]), 1e-5)

    def attend(p, query, memory, valid):
        theirs = torch.nn.MultiheadAttention(
            8, 4, kdim=memory.shape[-1], vdim=memory.shape[-1], batch_first=True
        )
        values = [tensor(p[n]["kernel"]).reshape(-1, 8).T for n in ("query", "key", "value")]
        biases = torch.cat([tensor(p[n]["bias"]).reshape(8) for n in ("query", "key", "value")])
        with torch.no_grad():
            if memory.shape[-1] == 8:
                theirs.in_proj_weight.copy_(torch.cat(values))
            else:
                for name, value in zip("qkv", values, strict=True):
                    getattr(theirs, f"{name}_proj_weight").copy_(value)
            theirs.in_proj_bias.copy_(biases)
            theirs.out_proj.weight.copy_(tensor(p["out"]["kernel"]).reshape(8, 8).T)
            theirs.out_proj.bias.copy_(tensor(p["out"]["bias"]))
            return theirs(query, memory, memory, key_padding_mask=~valid)[0]

    x = tensor(CELLS).reshape(2, 12, 8)
    position = tensor(sine_position_encoding(3, 4, 8))
    everywhere = torch.ones(2, 12, dtype=torch.bool)
    for i in range(2):
        p = loud["params"][f"layer{i}"]
        y = norm(x, p["cell_norm"]) + position
        x = x + attend(p["cells"], y, y, everywhere)
        y = norm(x, p["word_norm"]) + position
        x = x + attend(p["words"], y, tensor(TEXT.words), tensor(VALID))
        y = norm(x, p["mlp_norm"]) @ tensor(p["expand"]["kernel"]) + tensor(p["expand"]["bias"])
        x = x + torch.relu(y) @ tensor(p["reduce"]["kernel"]) + tensor(p["reduce"]["bias"])
    np.testing.assert_allclose(
        apply(loud, CELLS, TEXT).reshape(2, 12, 8), x.numpy(), rtol=1e-4, atol=1e-4
    )


def test_a_cell_attends_to_other_cells_and_to_words_but_not_to_padding():
    apply, _, loud = make(True)
    expected = np.asarray(apply(loud, CELLS, TEXT))
    moved = CELLS.copy()
    moved[0, 0, 0, 0] += 1
    seen = np.asarray(apply(loud, moved, TEXT))
    assert (seen[0] != expected[0]).any(axis=-1).all()
    np.testing.assert_array_equal(seen[1], expected[1])
    words = TEXT.words.copy()
    words[1, 2:] = 9  # padding
    np.testing.assert_array_equal(apply(loud, CELLS, TEXT._replace(words=words)), expected)
    words[1, 1] = 9
    assert (np.asarray(apply(loud, CELLS, TEXT._replace(words=words)))[1] != expected[1]).any()


def test_a_network_with_it_has_its_shapes_and_parameters():
    def shapes(**changes):
        model = LTS(vocab_size=9, **TINY, **changes)
        image, tokens = jnp.zeros((2, 64, 64, 3)), jnp.ones((4, 5), jnp.int32)
        init = functools.partial(model.init_with_output, train=False)
        return jax.eval_shape(init, jax.random.key(0), image, tokens, jnp.ones(4, jnp.int32))

    plain, plain_variables = shapes()
    outputs, variables = shapes(attention_layers=2, attention_words=True)
    assert outputs == plain
    added = variables["params"].keys() - plain_variables["params"].keys()
    assert added == {"attention"}
    assert variables["params"]["attention"].keys() == {"layer0", "layer1"}


def test_wrong_fields(tiny_config_factory):
    config = tiny_config_factory()
    config.model.attention_words = True
    with pytest.raises(ConfigError, match=r"attention_words=True requires attention layers"):
        check_config(config)
    config.model.attention_layers = 1
    check_config(config)
    config.model.fused_features = 12
    with pytest.raises(ConfigError, match=r"fused_features=12 must be a multiple of 8"):
        check_config(config)
