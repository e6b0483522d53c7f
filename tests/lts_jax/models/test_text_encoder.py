import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.models.text_encoder import TextEncoder
from tests.lts_jax.helpers.oracles import relative_error

torch = pytest.importorskip("torch", reason="torch.nn.GRU is the oracle")

TOKENS = np.array([[3, 5, 2, 4, 7], [6, 2, 0, 0, 0], [1, 0, 0, 0, 0], [2, 2, 9, 0, 0]], np.int32)
LENGTHS = np.array([5, 2, 1, 3], np.int32)


def torch_gru(params, embed_dim, features):
    gru = torch.nn.GRU(embed_dim, features, batch_first=True, bidirectional=True)
    for suffix, direction in (("l0", "forward"), ("l0_reverse", "backward")):
        cell = jax.tree.map(np.array, params[direction]["cell"])
        w_ih = np.concatenate([cell[f"i{g}"]["kernel"].T for g in "rzn"])
        w_hh = np.concatenate([cell[f"h{g}"]["kernel"].T for g in "rzn"])
        b_ih = np.concatenate([cell[f"i{g}"]["bias"] for g in "rzn"])
        # Flax has a single bias for r and for z, but a separate one for the hidden state n.
        zeros = np.zeros(2 * features, np.float32)
        b_hh = np.concatenate([zeros, cell["hn"]["bias"]])
        for name, value in {
            "weight_ih": w_ih,
            "weight_hh": w_hh,
            "bias_ih": b_ih,
            "bias_hh": b_hh,
        }.items():
            getattr(gru, f"{name}_{suffix}").data = torch.tensor(value)
    return gru


def test_equals_torch_gru_on_packed_sequences():
    model = TextEncoder(vocab_size=10, embed_dim=6, features=8)
    variables = model.init(jax.random.key(0), TOKENS, LENGTHS)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.normal(0, 0.5, x.shape).astype(np.float32), variables)
    params = params["params"]
    gru = torch_gru(params, 6, 8)
    table = torch.tensor(params["embed"]["embedding"], requires_grad=True)
    x = table[torch.tensor(TOKENS.astype(np.int64))]
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        x, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    hidden, _ = torch.nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True)
    theirs = hidden.sum(1) / torch.tensor(LENGTHS)[:, None]
    theirs.sin().sum().backward()

    ours = model.apply({"params": params}, TOKENS, LENGTHS)
    assert relative_error(ours.words, hidden.detach().numpy()) < 1e-5
    assert relative_error(ours.sentence, theirs.detach().numpy()) < 1e-5

    def loss(params):
        return jnp.sin(model.apply({"params": params}, TOKENS, LENGTHS).sentence).sum()

    grads = jax.grad(loss)(params)
    assert relative_error(grads["embed"]["embedding"], table.grad.numpy()) < 1e-5
    recurrent = gru.weight_hh_l0_reverse.grad.numpy()
    ours_recurrent = np.concatenate(
        [np.array(grads["backward"]["cell"][f"h{g}"]["kernel"]).T for g in "rzn"]
    )
    assert relative_error(ours_recurrent, recurrent) < 1e-5


@pytest.mark.slow
def test_padding_changes_nothing():
    model = TextEncoder(vocab_size=10, embed_dim=6, features=8)
    variables = model.init(jax.random.key(0), TOKENS, LENGTHS)
    full = model.apply(variables, TOKENS, LENGTHS)
    assert not np.asarray(full.words)[~np.asarray(full.valid)].any()
    for row, length in enumerate(LENGTHS):
        alone = model.apply(variables, TOKENS[row : row + 1, :length], LENGTHS[row : row + 1])
        np.testing.assert_allclose(alone.sentence[0], full.sentence[row], atol=1e-6)
    other_pads = np.where(np.asarray(full.valid), TOKENS, 7)
    np.testing.assert_array_equal(
        model.apply(variables, other_pads, LENGTHS).sentence, full.sentence
    )
