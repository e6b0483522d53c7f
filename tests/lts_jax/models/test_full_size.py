"""configs/refcoco.py takes a full-size training step on the available device."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from lts_jax.configs import refcoco
from lts_jax.data import pipeline
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.distributed.mesh import make_mesh, put_batch, replicated
from lts_jax.experiment.experiment import Experiment
from lts_jax.state import train_state
from lts_jax.steps import inference
from lts_jax.steps.optimizer import make_optimizer, make_schedule
from lts_jax.steps.scoring import compile_score_step
from lts_jax.steps.training import StepSettings, compile_train_step

pytestmark = pytest.mark.slow


def test_training_and_evaluation_step(shapes_data):
    config: ConfigDict = refcoco.get_config()
    assert config.data.image_size == 416
    split = shapes_data.split("val")
    mesh = make_mesh(jax.devices()[:1])
    experiment = Experiment(config, mesh, Vocabulary.build(split.index.text).words)
    preprocessing, model = experiment.preprocessing, experiment.model
    optimizer = make_optimizer(make_schedule(1e-3, (30,), 0.1, 6701))
    state = jax.jit(
        lambda: train_state.init_state(model, optimizer, 0, 416, config.data.max_words),
        out_shardings=replicated(mesh),
    )()
    train_step = compile_train_step(
        StepSettings(model, optimizer, config.train.location_weight, mesh)
    )
    batch = preprocessing.train_batch(split, [0, 1])
    state, losses = train_step(state, put_batch(batch, mesh))
    assert all(np.isfinite(float(value)) for value in losses.values())

    rows = pipeline.rows_by_image(split)[:2]
    canvas = (640, 640)
    groups = pipeline.eval_batches(
        split, preprocessing, rows, canvas=canvas, batch_size=2, threads=1
    )
    images, sentences = next(iter(groups))
    encode = inference.compile_encode_step(model, mesh)
    score = compile_score_step(model, (config.eval.threshold,), mesh, pictures=True)
    features = encode(state, images["image"])
    del sentences[0]["row"]
    out = score(state, features, images["placement"], sentences[0])
    assert out["prediction"].shape == (2, 640, 80)
    assert out["heatmap"].shape == (2, 1, 52, 52)
    assert (np.asarray(out["union"]) > 0).all()
