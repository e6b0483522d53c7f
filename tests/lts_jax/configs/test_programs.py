"""The paper's variants compile to the programs that they were before there was more to choose."""

import hashlib

import jax
import jax.numpy as jnp
import pytest

from lts_jax.configs.variants import VARIANTS
from lts_jax.distributed.mesh import make_mesh
from lts_jax.experiment.experiment import Experiment
from lts_jax.steps import inference
from lts_jax.steps.optimizer import make_optimizer
from tests.lts_jax.configs.test_configs import load
from tests.lts_jax.helpers.tiny import TINY

# The text of a program depends on JAX, so it is recorded for one version.
VERSION = "0.10.2"
PROGRAMS = {
    "lts": "d29dfaa65239f0de0e50117fd37e6730de86cb53e44cde913b0811bb712b333a",
    "fusion": "b309cc391ef1fce5cde4da7c60b1b7992365d625f3a84ad252a99345aadacec1",
    "filter": "8bd5e3966a3c29fb714834878ebfd52f0206b871bb48fc9f95b84377ea5b1467",
    "fusion_filter": "c341f8f7db11116ad02f17e13bc33ae0cae42bbd9742e7ff2de9f555d42b9794",
    "fusion_seg": "90ac59bd871788229168593a5d191791c1b9fccef04f6e6d9ea6b20d7657bb13",
    "filter_seg": "a4bb04b513e1daa813e17925b571c1ae223f4c142c18b4f3e9e11e0135ded09e",
    "no_loc_loss": "4d763e76aa7c6d632f204a2cc20f0e12330f5b5b84f41892ca37479a8c43247c",
    "transformer": "e7aac1a7f6f2fd82730260fbd0a7eb643b3a7bd1e88b44153f2d6826fdf78500",
    "filters2": "fa81de3aba2a734dbbd59b62f88fca4f49e138e22df36e2f6873e04cd2aded72",
    "filters3": "7fbd169e6f180ae125a724528df934cfd8779a4fec6a44c2bb371934c0d36762",
    "word_filter": "1c427376ef0271a3f0d0bf9da4a96ac247f7152ba7b999d50958e20a1ac06d02",
    "star": "c9718dd6db0baeff86dbbcd9158e19d26df4fe23a81c0f518413af6096fea2d7",
}
QUICK = ("lts",)


def programs(variant: str) -> str:
    """SHA-256 of a training step, of an encoded image and of the sentences about it."""
    config = load("refcoco", variant)
    config.model.update(TINY)
    config.data.image_size = 64
    experiment = Experiment(config, make_mesh(jax.devices()[:1]), [f"w{i}" for i in range(7)])
    # Its schedule would need the number of sentences.
    vars(experiment)["optimizer"] = make_optimizer(lambda _: config.train.learning_rate)
    model, state = experiment.model, experiment.abstract_state
    sentences = {
        "tokens": jax.ShapeDtypeStruct((4, 15), jnp.int32),
        "length": jax.ShapeDtypeStruct((4,), jnp.int32),
    }
    image = jax.ShapeDtypeStruct((4, 64, 64, 3), jnp.uint8)
    truth = {f"truth{k}": jax.ShapeDtypeStruct((4, 64 // k, 64 // k), jnp.uint8) for k in (4, 8)}
    encode = jax.jit(lambda state, image: inference.encode(model, state, image))
    refer = jax.jit(lambda *args: inference.refer(model, *args))
    batch = sentences | {"image": jax.ShapeDtypeStruct((4,), jnp.int32)}
    lowered = (
        experiment.train_step.lower(state, {"image": image, **sentences, **truth}),
        encode.lower(state, image),
        refer.lower(state, jax.eval_shape(encode, state, image), batch),
    )
    digest = hashlib.sha256()
    for program in lowered:
        digest.update(program.as_text().encode())
    return digest.hexdigest()


@pytest.mark.skipif(jax.__version__ != VERSION, reason=f"recorded with JAX {VERSION}")
@pytest.mark.parametrize(
    "variant",
    [
        pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
        for name in VARIANTS
        if not name.startswith("size")
    ],
)
def test_programs_are_what_they_were(variant):
    assert programs(variant) == PROGRAMS[variant]
