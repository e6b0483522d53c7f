"""The network in JAX and PyTorch, with the same batch and weights.

Weights, BatchNorm scales, statistics and masks are random. The images are not square, sentences
have all lengths, and the padding contains words that must not affect the results.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import torch
from flax.traverse_util import flatten_dict, unflatten_dict

from benchmarks.peer.lts import TorchLTS, loss
from benchmarks.peer.weights import to_flax, to_torch
from lts_jax.configs.variants import VARIANTS
from lts_jax.models import LTS
from lts_jax.models.losses import total_loss
from tests.lts_jax.helpers.oracles import batch_norm_variables
from tests.lts_jax.helpers.tiny import TINY

BATCH, WORDS, VOCAB = 4, 6, 12
ENCODERS = ("backbone", "text")

# Compilation takes most of the time of these tests.
_QUICK = {"xla_backend_optimization_level": 0, "xla_cpu_use_fusion_emitters": False}
jit = partial(jax.jit, compiler_options=_QUICK)
# Several threads would slow down such a small network.
torch.set_num_threads(1)


class Batch(NamedTuple):
    image: Any
    tokens: Any
    lengths: Any
    truth4: Any
    truth8: Any


class Result(NamedTuple):
    """Results of one network on the batch, with Flax's names."""

    evaluated: dict[str, np.ndarray]
    trained: dict[str, np.ndarray]
    loss: float
    gradients: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


class Variant(NamedTuple):
    """Overrides of the model config, and λ."""

    model: dict[str, Any]
    location_weight: float


def read_variants() -> dict[str, Variant]:
    def read(overrides: dict[str, Any]) -> Variant:
        model = {k[6:]: v for k, v in overrides.items() if k.startswith("model.")}
        return Variant(model, overrides.get("train.location_weight", 0.1))

    variants = {name: read(overrides) for name, overrides in VARIANTS.items()}
    # Settings that no variant of the paper uses.
    variants["prior_logits"] = Variant({"prior": "logits", "rounds": 2, "coordinates": True}, 0.1)
    return variants


ALL = read_variants()
# Variants that differ only in the image size share one network, computed under the first name.
SAME = {name: next(k for k, v in ALL.items() if v == variant) for name, variant in ALL.items()}


@cache
def make_batch(height: int = 64, width: int = 96) -> Batch:
    rng = np.random.default_rng(0)
    image = rng.uniform(size=(BATCH, height, width, 3)).astype(np.float32)
    tokens, lengths = rng.integers(0, VOCAB, (BATCH, WORDS)), np.array([WORDS, 1, 4, 3])
    truth4, truth8 = (
        rng.integers(0, 2, (BATCH, height // s, width // s)).astype(np.float32) for s in (4, 8)
    )
    return Batch(image, tokens, lengths, truth4, truth8)


def make_flax(name: str, dtype: Any = jnp.float32) -> LTS:
    return LTS(vocab_size=VOCAB, **{**TINY, **ALL[name].model}, dtype=dtype)


def make_torch(name: str, dtype: torch.dtype = torch.float32) -> TorchLTS:
    model = TorchLTS(VOCAB, **{**TINY, **ALL[name].model}, max_words=WORDS)
    model.load_state_dict(to_torch(make_variables(SAME[name]), model))
    return model.to(dtype)


@cache
def make_variables(name: str) -> Any:
    """Returns random float32 variables as a Flax tree."""
    rng = np.random.default_rng(0)
    init = partial(make_flax(name).init, train=False)
    shapes = flatten_dict(jax.eval_shape(init, jax.random.key(0), *make_batch()[:3]))

    def draw(shape: tuple[int, ...]) -> np.ndarray:
        return rng.normal(0, (2 / max(np.prod(shape[:-1]), 1)) ** 0.5, shape).astype(np.float32)

    drawn = unflatten_dict({path: draw(x.shape) for path, x in shapes.items()})
    return batch_norm_variables(drawn, 0)


def flat(tree: Any) -> dict[str, np.ndarray]:
    return {path: np.asarray(x) for path, x in flatten_dict(tree, sep="/").items()}


def as_dict(outputs: Any) -> dict[str, np.ndarray]:
    maps = {k: x for k, x in outputs._asdict().items() if x is not None}
    return {k: np.asarray(getattr(x, "detach", lambda x=x: x)()) for k, x in maps.items()}


# JAX. The network runs in two parts, so that the encoders are compiled once for all variants.


def part(tree: Any, encoders: bool) -> Any:
    return {
        collection: {k: v for k, v in inside.items() if (k in ENCODERS) == encoders}
        for collection, inside in tree.items()
    }


def floats(tree: Any) -> list[jax.Array]:
    return [x for x in jax.tree.leaves(tree) if jnp.issubdtype(x.dtype, jnp.floating)]


def replace_floats(tree: Any, new: list[jax.Array]) -> Any:
    values = iter(new)
    return jax.tree.map(
        lambda x: next(values) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )


@cache
def flax_encoders(dtype: Any) -> tuple[Callable[..., Any], ...]:
    """Returns functions for features in evaluation, features in training, and gradients."""
    model = LTS(vocab_size=VOCAB, **TINY, dtype=dtype)

    def both(module: LTS, batch: Batch, train: bool) -> Any:
        return module.encode_image(batch.image, train=train), module.encode_text(*batch[1:3])

    def train(variables: Any, batch: Batch) -> Any:
        return model.apply(variables, batch, True, method=both, mutable=["batch_stats"])

    def evaluate(variables: Any, batch: Batch) -> Any:
        return model.apply(variables, batch, False, method=both)

    def backward(variables: Any, batch: Batch, features: Any) -> Any:
        stats = variables["batch_stats"]

        def run(params: Any) -> list[jax.Array]:
            return floats(train({"params": params, "batch_stats": stats}, batch)[0])

        return jax.vjp(run, variables["params"])[1](features)[0]

    return jit(evaluate), jit(train), jit(backward)


def flax_rest(name: str, dtype: Any) -> Callable[..., Any]:
    """Returns a function for outputs, and in training also loss, statistics and gradients."""
    same = next(other for other in ALL if ALL[other].model == ALL[name].model)
    return _flax_rest(same, dtype)


@cache
def _flax_rest(name: str, dtype: Any) -> Callable[..., Any]:
    model = make_flax(name, dtype)
    refer = partial(model.apply, method=LTS.refer)

    def run(variables: Any, evaluated: Any, trained: Any, batch: Batch, weight: float) -> Any:
        def loss_of(params: Any, features: Any) -> Any:
            inputs = {**variables, "params": params}
            image, text = replace_floats(trained, features)
            outputs, new = refer(inputs, image, text, train=True, mutable=["batch_stats"])
            value, _ = total_loss(outputs, batch.truth4, batch.truth8, weight)
            return value, (outputs, new)

        gradients = jax.value_and_grad(loss_of, argnums=(0, 1), has_aux=True)
        out = None if evaluated is None else refer(variables, *evaluated, train=False)
        return out, gradients(variables["params"], floats(trained))

    return jit(run)


def run_flax(
    name: str, variables: Any, rest: Callable[..., Any], data: Batch, evaluate: bool
) -> Result:
    dtype = jnp.result_type(variables["params"]["text"]["embed"]["embedding"])
    encode, encode_train, backward = flax_encoders(dtype)
    batch = jax.tree.map(jnp.asarray, data)
    batch = batch._replace(image=batch.image.astype(dtype))
    encoder = part(variables, True)
    features = encode(encoder, batch) if evaluate else None
    features_train, encoder_stats = encode_train(encoder, batch)
    out, ((value, (out_train, stats)), (grads, feature_grads)) = rest(
        part(variables, False), features, features_train, batch, ALL[name].location_weight
    )
    gradients = {**grads, **backward(encoder, batch, feature_grads)}
    statistics = {**stats["batch_stats"], **encoder_stats["batch_stats"]}
    return Result(
        as_dict(out) if evaluate else {},
        as_dict(out_train),
        float(value),
        flat({"params": gradients}),
        flat({"batch_stats": statistics}),
    )


# PyTorch.


def torch_inputs(
    batch: Batch, dtype: torch.dtype = torch.float32
) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Returns the inputs of the network and of the loss."""
    image, tokens, lengths, *truth = (torch.tensor(x) for x in batch)
    image = image.permute(0, 3, 1, 2).to(dtype, memory_format=torch.contiguous_format)
    return [image, tokens, lengths], [x.to(dtype) for x in truth]


def torch_gradients(name: str, model: TorchLTS, batch: Batch) -> tuple[Any, torch.Tensor]:
    inputs, truth = torch_inputs(batch, next(model.parameters()).dtype)
    outputs = model(*inputs)
    value = loss(outputs, *truth, ALL[name].location_weight)
    value.backward()
    return outputs, value


def run_torch(name: str, batch: Batch) -> Result:
    model = make_torch(name).eval()
    with torch.no_grad():
        evaluated = as_dict(model(*torch_inputs(batch)[0]))
    model.train()
    norms = {k: x for k, x in model.named_modules() if isinstance(x, torch.nn.BatchNorm2d)}
    before = {k: x.running_var.clone() for k, x in norms.items()}
    counts = {}
    for k, norm in norms.items():
        norm.register_forward_hook(lambda _, x, y, k=k: counts.update({k: y[:, 0].numel()}))
    outputs, value = torch_gradients(name, model, batch)
    # PyTorch's running variance is unbiased, Flax's is biased.
    for k, norm in norms.items():
        norm.running_var.copy_(
            0.9 * before[k] + (norm.running_var - 0.9 * before[k]) * (1 - 1 / counts[k])
        )
    gradients = {k: x.grad for k, x in model.named_parameters()}
    statistics = to_flax(model.state_dict(), model)["batch_stats"]
    return Result(
        evaluated,
        as_dict(outputs),
        value.item(),
        flat(to_flax(gradients, model, ("params",))),
        flat({"batch_stats": statistics}),
    )
