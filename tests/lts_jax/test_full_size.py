"""configs/refcoco.py at its full size takes a step, on whatever device is there."""

import jax
import numpy as np
from ml_collections import ConfigDict

from configs import refcoco
from lts_jax import experiment, sharding, steps
from lts_jax.data import pipeline
from lts_jax.data.tokenizer import Vocabulary
from lts_jax.optim import make_optimizer, make_schedule


def test_training_and_evaluation_step(shapes_data):
    config: ConfigDict = refcoco.get_config()
    assert config.data.image_size == 416
    split = shapes_data.split("val")
    vocabulary = Vocabulary.build(split.index.text)
    preprocessing = experiment.make_preprocessing(config, vocabulary)
    mesh = sharding.make_mesh(jax.devices()[:1])
    model = experiment.make_model(config, vocabulary)
    optimizer = make_optimizer(make_schedule(1e-3, (30,), 0.1, 6701))
    state = jax.jit(
        lambda: steps.init_state(model, optimizer, 0, 416, config.data.max_words),
        out_shardings=sharding.replicated(mesh),
    )()
    train_step = steps.compile_train_step(model, optimizer, config.train.location_weight, mesh)
    batch = preprocessing.train_batch(split, [0, 1])
    state, losses = train_step(state, sharding.put_batch(batch, mesh))
    assert all(np.isfinite(float(value)) for value in losses.values())

    rows = pipeline.rows_by_image(split)[:2]
    canvas = (640, 640)
    groups = pipeline.eval_batches(
        split, preprocessing, rows, canvas=canvas, batch_size=2, threads=1
    )
    images, sentences = next(iter(groups))
    encode = steps.compile_encode_step(model, mesh)
    score = steps.compile_score_step(model, config.eval.threshold, mesh, pictures=True)
    features = encode(state, images["image"])
    del sentences[0]["row"]
    out = score(state, features, images["placement"], sentences[0])
    assert out["prediction"].shape == (2, 640, 80)
    assert out["heatmap"].shape == (2, 1, 52, 52)
    assert (np.asarray(out["union"]) > 0).all()
