import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models.locator import Locator
from lts_jax.models.text_encoder import TextFeatures
from lts_jax.models.transformer import DecoderLayer, sine_position_encoding
from tests.lts_jax.helpers.oracles import randomize, relative_error

torch = pytest.importorskip("torch", reason="torch.nn.TransformerDecoderLayer is the oracle")

C, HEADS = 16, 4
RNG = np.random.default_rng(0)
QUERIES = RNG.normal(size=(3, 12, C)).astype(np.float32)
MEMORY = RNG.normal(size=(3, 2, C)).astype(np.float32)  # two tokens, so that attention matters


def torch_layer(params):
    layer = torch.nn.TransformerDecoderLayer(C, HEADS, C, dropout=0.0, batch_first=True)
    params = jax.tree.map(np.array, params)

    def put(parameter, value):
        assert parameter.shape == value.shape
        parameter.data = torch.tensor(np.ascontiguousarray(value))

    for ours, theirs in (
        ("self_attention", layer.self_attn),
        ("cross_attention", layer.multihead_attn),
    ):
        p = params[ours]
        names = ("query", "key", "value")
        put(theirs.in_proj_weight, np.concatenate([p[n]["kernel"].reshape(C, C).T for n in names]))
        put(theirs.in_proj_bias, np.concatenate([p[n]["bias"].reshape(C) for n in names]))
        put(theirs.out_proj.weight, p["out"]["kernel"].reshape(C, C).T)
        put(theirs.out_proj.bias, p["out"]["bias"])
    for i in (1, 2):
        linear = getattr(layer, f"linear{i}")
        put(linear.weight, params[f"linear{i}"]["kernel"].T)
        put(linear.bias, params[f"linear{i}"]["bias"])
    for i in (1, 2, 3):
        norm = getattr(layer, f"norm{i}")
        put(norm.weight, params[f"norm{i}"]["scale"])
        put(norm.bias, params[f"norm{i}"]["bias"])
    return layer


@pytest.mark.slow
def test_equals_torchs_decoder_layer():
    model = DecoderLayer(HEADS)
    position = jnp.zeros((12, C))
    params = randomize(model.init(jax.random.key(0), QUERIES, position, MEMORY))["params"]
    layer = torch_layer(params)
    queries, memory = torch.tensor(QUERIES, requires_grad=True), torch.tensor(MEMORY)
    memory.requires_grad_()
    theirs = layer(queries, memory)
    theirs.sin().sum().backward()

    def apply(params, queries, memory):
        return model.apply({"params": params}, queries, position, memory)

    def loss(*args):
        return jnp.sin(apply(*args)).sum()

    assert relative_error(apply(params, QUERIES, MEMORY), theirs.detach().numpy()) < 1e-5
    grads, *inputs = jax.grad(loss, argnums=(0, 1, 2))(params, QUERIES, MEMORY)
    assert relative_error(inputs[0], queries.grad.numpy()) < 1e-4
    assert relative_error(inputs[1], memory.grad.numpy()) < 1e-4
    for i in (1, 2, 3):
        norm = getattr(layer, f"norm{i}")
        assert relative_error(grads[f"norm{i}"]["scale"], norm.weight.grad.numpy()) < 1e-4
    for i in (1, 2):
        weight = getattr(layer, f"linear{i}").weight
        assert relative_error(grads[f"linear{i}"]["kernel"], weight.grad.numpy().T) < 1e-4
    for ours, theirs in (
        ("self_attention", layer.self_attn),
        ("cross_attention", layer.multihead_attn),
    ):
        projections = theirs.in_proj_weight.grad.numpy().reshape(3, C, C)
        for name, expected in zip(("query", "key", "value"), projections, strict=True):
            gradient = np.asarray(grads[ours][name]["kernel"]).reshape(C, C)
            assert relative_error(gradient, expected.T) < 1e-4
        out = np.asarray(grads[ours]["out"]["kernel"]).reshape(C, C)
        assert relative_error(out, theirs.out_proj.weight.grad.numpy().T) < 1e-4


def test_positions_are_added_to_queries_and_keys_only():
    """Compares both attentions with PyTorch's attention with the same weights."""
    model = DecoderLayer(HEADS)
    position = RNG.normal(size=(12, C)).astype(np.float32)
    params = randomize(model.init(jax.random.key(0), QUERIES, position, MEMORY))["params"]
    layer = torch_layer(params)
    x, memory, p = torch.tensor(QUERIES), torch.tensor(MEMORY), torch.tensor(position)
    attended, weights = layer.self_attn(x + p, x + p, x, average_attn_weights=False)
    x = layer.norm1(x + attended)
    x = layer.norm2(x + layer.multihead_attn(x + p, memory, memory)[0])
    theirs = layer.norm3(x + layer.linear2(layer.linear1(x).relu()))
    ours, seen = model.apply(
        {"params": params}, QUERIES, position, MEMORY, mutable=["intermediates"]
    )
    assert relative_error(ours, theirs.detach().numpy()) < 1e-5
    sown = seen["intermediates"]["self_attention"]["attention_weights"][0]
    assert relative_error(sown, weights.detach().numpy()) < 1e-5


def test_bfloat16_keeps_no_large_array_in_float32():
    position = RNG.normal(size=(12, C)).astype(np.float32)
    exact = DecoderLayer(HEADS)
    params = randomize(exact.init(jax.random.key(0), QUERIES, position, MEMORY))["params"]
    rough = DecoderLayer(HEADS, dtype=jnp.bfloat16)
    args = {"params": params}, QUERIES, position, MEMORY
    ours, seen = rough.apply(*args, mutable=["intermediates"])
    weights = seen["intermediates"]["self_attention"]["attention_weights"][0]
    assert ours.dtype == weights.dtype == jnp.bfloat16
    assert 1e-5 < relative_error(ours.astype(np.float32), exact.apply(*args)) < 5e-2


def test_position_encoding_is_detrs():
    """Compares with a loop over cells and channels."""
    h, w, features = 3, 5, 12
    ours = sine_position_encoding(h, w, features).reshape(h, w, features)
    half = features // 2
    for y in range(h):
        for x in range(w):
            for i in range(features):
                count, n = (y + 1, h) if i < half else (x + 1, w)
                angle = count / (n + 1e-6) * 2 * np.pi
                angle /= 10000 ** (2 * ((i % half) // 2) / half)
                expected = np.sin(angle) if i % half % 2 == 0 else np.cos(angle)
                assert ours[y, x, i] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="multiple of 4"):
        sine_position_encoding(3, 5, 10)


@pytest.mark.slow
def test_locator_reads_cells_in_row_major_order():
    """Each output cell corresponds to the input cell at its position; all cells differ."""
    fused = RNG.normal(size=(1, 3, 4, C)).astype(np.float32)
    words = RNG.normal(size=(1, 2, 6)).astype(np.float32)
    text = TextFeatures(words, np.ones((1, 2), bool), words.mean(1))
    model = Locator("transformer")
    params = randomize(model.init(jax.random.key(0), fused, text, train=False))["params"]
    ours = model.apply({"params": params}, fused, text, train=False)
    of_round = params["round0"]
    cells = fused.reshape(1, 12, C)
    hidden = DecoderLayer(HEADS).apply(
        {"params": of_round["layer"]},
        cells,
        sine_position_encoding(3, 4, C),
        text.sentence[:, None],
    )
    expected = hidden @ of_round["map"]["kernel"][:, 0] + of_round["map"]["bias"]
    assert ours.shape == (1, 1, 3, 4)
    np.testing.assert_allclose(np.asarray(ours).ravel(), np.asarray(expected).ravel(), rtol=1e-5)
