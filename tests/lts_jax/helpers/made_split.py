"""A split of random images and masks, and an evaluator of a tiny network on it."""

import functools
import types

import cv2
import jax
import numpy as np
import optax

from lts_jax.data import examples, pipeline
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.distributed.mesh import make_mesh, replicated
from lts_jax.evaluation.evaluator import Evaluator
from lts_jax.experiment.thresholds import Threshold, Thresholds
from lts_jax.models import LTS
from lts_jax.state import train_state
from lts_jax.steps import inference, scoring
from lts_jax.steps.optimizer import make_optimizer
from tests.lts_jax.helpers.drawn import draw_state
from tests.lts_jax.helpers.tiny import TINY
from tfds_refcoco import masks

WORDS = ("left", "man", "red", "cup", "second", "from", "the", "top")
SIZES = [(50, 40), (33, 64), (1, 37), (64, 1), (45, 45)]
B = 8  # images and sentences in a step
SIDE = 64

# Sentences per image. In the first set, one image has more than a batch; in the second set, the
# number of images is not a multiple of the group size, so that the last group is padded.
SENTENCES = {"few": (1, 2, 3, 20, 1), "many": (1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2)}


class MadeSplit:
    """The attributes of a Split that evaluation uses, with random images and masks of odd sizes."""

    def __init__(self, sentences, sizes=SIZES):
        rng = np.random.default_rng(0)
        self.records, columns, self.text = [], [], []
        for number, count in enumerate(sentences):
            h, w = sizes[number % len(sizes)]
            noise = rng.integers(0, 256, (h // 8 + 1, w // 8 + 1, 3), dtype=np.uint8)
            jpeg = cv2.imencode(".jpg", cv2.resize(noise, (w, h)))[1].tobytes()
            objects = [masks.encode(rng.random((h, w)) < p) for p in (0.1, 0.6)]
            target = rng.integers(0, 2, count)
            self.records.append(
                {
                    "image": jpeg,
                    "height": h,
                    "width": w,
                    "objects": {"mask": objects},
                    "targets": {"sentence": np.arange(count), "object": target},
                }
            )
            for i in range(count):
                area = masks.area(objects[target[i]], h, w)
                columns.append((number, i, len(columns), 2 * number + target[i], 7, h, w, area, 2))
                self.text.append(" ".join(rng.choice(WORDS, rng.integers(1, 6))))
        names = ("record", "sentence", "sent_id", "ref_id", "image_id", "height", "width")
        names += ("area", "same_category")
        arrays = dict(zip(names, np.array(columns).T, strict=True))
        self.index = types.SimpleNamespace(
            text=self.text,
            category=["thing"] * len(columns),
            kind=[""] * len(columns),
            **arrays,
        )
        self.names = ("made",)
        self.counts = types.SimpleNamespace(images=len(sentences), sentences=len(columns))

    def record(self, number):
        return self.records[number]


@functools.cache
def make_model(**parts):
    """Returns a network and a state with random parameters."""
    model = LTS(vocab_size=len(WORDS) + 2, **(TINY | parts))
    optimizer = make_optimizer(optax.constant_schedule(0.0))
    shapes = jax.eval_shape(lambda: train_state.init_state(model, optimizer, 0, SIDE, 6))
    return model, draw_state(shapes, mask_gain=3.0)  # masks depend on the sentence


def make_evaluator(split, n_devices=1, threshold=0.5, other=None, **parts):
    model, state = make_model(**parts)
    mesh = make_mesh(jax.devices()[:n_devices])
    preprocessing = examples.Preprocessing(Vocabulary(WORDS), SIDE, max_words=6)
    second = None if other is None else Threshold(other, "val")
    thresholds = Thresholds(Threshold(threshold), second)
    evaluator = Evaluator(
        model,
        split,
        preprocessing,
        inference.compile_encode_step(model, mesh),
        scoring.compile_score_step(model, (threshold,), mesh),
        scoring.compile_score_step(model, thresholds.values, mesh, pictures=True),
        pipeline.rows_by_image(split),
        batch_size=B,
        mesh=mesh,
        threads=2,
        thresholds=thresholds,
    )
    return evaluator, model, jax.device_put(state, replicated(mesh))
