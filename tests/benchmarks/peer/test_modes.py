"""The PyTorch implementation: its GRU, `torch.compile`, autocast and memory formats."""

from typing import Any

import pytest

from tests.lts_jax.helpers.tiny import TINY

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from benchmarks.peer.encoders import GRU, TextEncoder
from benchmarks.peer.lts import TorchLTS, loss

VOCAB, WORDS = 12, 6
MODELS: dict[str, dict[str, Any]] = {
    "lts": {},
    "word_filter": {"locate": "word_filter"},
    "transformer": {"locate": "transformer", "rounds": 2},
}


def make_inputs() -> list[torch.Tensor]:
    torch.manual_seed(0)
    tokens, lengths = torch.randint(VOCAB, (4, WORDS)), torch.tensor([WORDS, 1, 4, 3])
    return [torch.rand(4, 3, 64, 96), tokens, lengths]


def make_model(name: str) -> TorchLTS:
    torch.manual_seed(0)
    return TorchLTS(VOCAB, **TINY, **MODELS[name], neck=False, max_words=WORDS)


def test_text_encoder_is_a_packed_gru() -> None:
    encoder = TextEncoder(VOCAB, 5, 4)
    gru = torch.nn.GRU(5, 4, bidirectional=True, batch_first=True)

    def copy(own: GRU, suffix: str) -> None:
        biases = torch.cat([torch.zeros(8), own.bias_hn.detach()])
        weights = {"weight_ih": own.weight_ih, "weight_hh": own.weight_hh, "bias_ih": own.bias_ih}
        for name, x in {**weights, "bias_hh": biases}.items():
            getattr(gru, f"{name}_l0{suffix}").data = x.detach().clone()

    copy(encoder.forward_gru, "")
    copy(encoder.backward_gru, "_reverse")
    _, tokens, lengths = make_inputs()
    packed = pack_padded_sequence(
        encoder.embed(tokens), lengths, batch_first=True, enforce_sorted=False
    )
    words, _ = pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=WORDS)
    ours = encoder(tokens, lengths)
    torch.testing.assert_close(ours.words, words, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours.sentence, words.sum(1) / lengths[:, None])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lts", "transformer"])
def test_compiles_without_a_break(name: str) -> None:
    inputs, plain, compiled = make_inputs(), make_model(name), make_model(name)
    outputs = plain(*inputs)
    again = torch.compile(compiled, fullgraph=True, backend="eager")(*inputs)
    torch.testing.assert_close(tuple(again), tuple(outputs))
    for result in (outputs, again):
        (result.mask.square().mean() + result.heatmap.square().mean()).backward()
    gradients = {k: x.grad for k, x in compiled.named_parameters()}
    torch.testing.assert_close(gradients, {k: x.grad for k, x in plain.named_parameters()})


@pytest.mark.slow
def test_the_gru_compiles_with_its_gradients() -> None:
    # The only part that the compiler decomposes.
    _, tokens, lengths = make_inputs()
    encoder = TextEncoder(VOCAB, 5, 4)
    parameters = list(encoder.parameters())
    compiled = torch.compile(encoder, fullgraph=True, backend="aot_eager")
    ours, reference = compiled(tokens, lengths), encoder(tokens, lengths)
    torch.testing.assert_close(tuple(ours), tuple(reference))
    torch.testing.assert_close(
        torch.autograd.grad(ours.sentence.square().sum(), parameters),
        torch.autograd.grad(reference.sentence.square().sum(), parameters),
    )


@pytest.mark.parametrize("name", MODELS)
def test_bfloat16_and_channels_last(name: str) -> None:
    model, inputs = make_model(name).train(), make_inputs()
    with torch.no_grad():
        # Run until BatchNorm's statistics are those of the batch.
        for _ in range(20):
            model(*inputs)
        reference = model.eval()(*inputs)
    model = model.to(memory_format=torch.channels_last)
    inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        features = model.encode_image(inputs[0])
        outputs = model.refer(features, model.encode_text(*inputs[1:]))
        assert all(x.is_contiguous(memory_format=torch.channels_last) for x in features)
        assert all(x.dtype == torch.bfloat16 for x in features)
    for ours, expected in zip(outputs, reference, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - expected).norm() <= 2e-2 * expected.norm()
    truth4, truth8 = torch.ones(4, 16, 24), torch.ones(4, 8, 12)
    loss(outputs, truth4, truth8, 0.1).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in model.parameters())
