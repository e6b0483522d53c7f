"""CMPC's sentence encoder equals PyTorch's LSTM on packed sequences."""

import jax
import numpy as np
import pytest

from lts_jax.models.lstm import LSTMEncoder
from tests.lts_jax.helpers.oracles import randomize, relative_error

torch = pytest.importorskip("torch", reason="torch.nn.LSTM is the oracle")

TOKENS = np.array([[3, 5, 2, 4, 7], [6, 2, 0, 0, 0], [1, 0, 0, 0, 0], [2, 2, 9, 0, 0]], np.int32)
LENGTHS = np.array([5, 2, 1, 3], np.int32)
MODEL = LSTMEncoder(vocab_size=10, embed_dim=6, features=8)


def torch_lstm(params):
    def in_torchs_order(kernel):
        i, j, f, o = np.split(np.asarray(kernel), 4, axis=-1)
        return np.concatenate([i, f, j, o], axis=-1).T

    lstm = torch.nn.LSTM(6, 8, batch_first=True)
    bias = in_torchs_order(params["input"]["bias"]).copy()
    bias[8:16] += 1  # the forget gate
    lstm.weight_ih_l0.data = torch.tensor(in_torchs_order(params["input"]["kernel"]).copy())
    lstm.weight_hh_l0.data = torch.tensor(in_torchs_order(params["state"]["kernel"]).copy())
    lstm.bias_ih_l0.data = torch.tensor(bias)
    lstm.bias_hh_l0.data.zero_()
    return lstm


@pytest.fixture(scope="module")
def params():
    return randomize(MODEL.init(jax.random.key(0), TOKENS, LENGTHS))["params"]


def test_equals_torch_lstm_on_packed_sequences(params):
    ours = MODEL.apply({"params": params}, TOKENS, LENGTHS)
    vectors = torch.tensor(np.asarray(params["embed"]["embedding"])[TOKENS])
    packed = torch.nn.utils.rnn.pack_padded_sequence(
        vectors, torch.tensor(LENGTHS), batch_first=True, enforce_sorted=False
    )
    states, (last, _) = torch_lstm(params)(packed)
    words, _ = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    assert relative_error(ours.words, words.detach().numpy()) < 1e-5
    assert relative_error(ours.sentence, last[0].detach().numpy()) < 1e-5
    np.testing.assert_array_equal(ours.valid, np.arange(5) < LENGTHS[:, None])


def test_padding_changes_nothing(params):
    others = np.where(np.arange(5) < LENGTHS[:, None], TOKENS, 9)
    for one, two in zip(
        MODEL.apply({"params": params}, TOKENS, LENGTHS),
        MODEL.apply({"params": params}, others, LENGTHS),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)
