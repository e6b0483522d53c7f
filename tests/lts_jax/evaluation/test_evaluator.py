"""Evaluation encodes each image once, and gives what one sentence at a time would give."""

import dataclasses
import functools
import itertools
import json
import types

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image

from lts_jax.data import buckets, examples, image_ops, pipeline
from lts_jax.data.vocabulary import Vocabulary
from lts_jax.distributed.mesh import make_mesh, put_batch, replicated
from lts_jax.errors import NonFiniteOutputError
from lts_jax.evaluation.evaluator import Evaluator
from lts_jax.io import drawing
from lts_jax.models import LTS
from lts_jax.state import train_state
from lts_jax.steps import inference, scoring
from lts_jax.steps.optimizer import make_optimizer
from tests.lts_jax.helpers import independent
from tests.lts_jax.helpers.tiny import TINY
from tfds_refcoco import masks

WORDS = ("left", "man", "red", "cup", "second", "from", "the", "top")
SIZES = [(50, 40), (33, 64), (1, 37), (64, 1), (45, 45)]
B = 8  # images and sentences in a step
SIDE = 64
NEAR = 1e-5  # a probability so close to the threshold may fall on either side

# Sentences of each image. One has more than a batch; of the second set, there are more images than
# a group holds, so that the last group is filled up.
SENTENCES = {"few": (1, 2, 3, 20, 1), "many": (1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2)}


class MadeSplit:
    """What evaluation reads of a Split, over random images and masks of odd sizes."""

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
    """The network with random parameters, so large that masks depend on the sentence."""
    model = LTS(vocab_size=len(WORDS) + 2, **(TINY | parts))
    optimizer = make_optimizer(optax.constant_schedule(0.0))
    state = jax.jit(lambda: train_state.init_state(model, optimizer, 0, SIDE, 6))()
    larger = jax.tree.map(lambda p: 1.75 * p if p.ndim > 1 else p, state.params)
    return model, state.replace(params=larger)


def make_evaluator(split, n_devices=1, threshold=0.5, **parts):
    if jax.device_count() < n_devices:
        pytest.skip(f"{jax.device_count()} devices here, {n_devices} wanted")
    model, state = make_model(**parts)
    mesh = make_mesh(jax.devices()[:n_devices])
    preprocessing = examples.Preprocessing(Vocabulary(WORDS), SIDE, max_words=6)
    evaluator = Evaluator(
        model,
        split,
        preprocessing,
        inference.compile_encode_step(model, mesh),
        scoring.compile_score_step(model, threshold, mesh),
        scoring.compile_score_step(model, threshold, mesh, pictures=True),
        pipeline.rows_by_image(split),
        batch_size=B,
        mesh=mesh,
        threads=2,
    )
    return evaluator, model, jax.device_put(state, replicated(mesh))


@functools.cache
def one_by_one(name):
    """The whole network on one pair at a time: full-size probability and truth of each row."""
    split = MadeSplit(SENTENCES[name])
    evaluator, model, state = make_evaluator(split)
    canvas = (64, 64)

    @jax.jit
    def run(image, tokens, length, placement):
        outputs = model.apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            inference.to_float(image),
            tokens,
            length,
            train=False,
        )
        return scoring.full_probability(outputs.mask, placement, SIDE, canvas)

    found = []
    for row, text in enumerate(split.index.text):
        record = split.record(split.index.record[row])
        image, placement = evaluator.preprocessing.image(record)
        sentence = evaluator.preprocessing.sentence(text)
        full = run(
            image[None],
            sentence["tokens"][None],
            sentence["length"][None],
            jnp.array([placement], jnp.int32),
        )
        h, w = placement[:2]
        truth = examples.read_mask(record, split.index.sentence[row], h, w) > 0
        found.append((np.asarray(full[0, :h, :w]), truth))
    return found


@pytest.mark.parametrize("n_devices", [1, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [pytest.param("few", marks=pytest.mark.slow), "many"])
def test_shared_encoding_equals_one_sentence_at_a_time(name, n_devices, tmp_path):
    split = MadeSplit(SENTENCES[name])
    expected = one_by_one(name)
    threshold = float(np.median(np.concatenate([full.ravel() for full, _ in expected])))
    evaluator, model, state = make_evaluator(split, n_devices, threshold)

    # Probabilities, as the two compiled steps would threshold them.
    worst, rows_seen = 0.0, []

    def probability(state, features, placement, batch):
        outputs = inference.refer(model, state, features, batch)
        return scoring.full_probability(outputs.mask, placement[batch["image"]], SIDE, (64, 64))

    on_devices = inference.on_each_device(probability, evaluator.mesh)
    for images, sentences in evaluator.batches():
        images = put_batch(images, evaluator.mesh)
        features = evaluator.encode_step(state, images["image"])
        for batch in sentences:
            rows = batch.pop("row")
            put = put_batch(batch, evaluator.mesh)
            full = np.asarray(on_devices(state, features, images["placement"], put))
            for i, row in enumerate(rows):
                if row >= 0:
                    rows_seen.append(int(row))
                    h, w = expected[row][0].shape
                    worst = max(worst, np.abs(full[i, :h, :w] - expected[row][0]).max())
    assert sorted(rows_seen) == list(range(len(expected)))
    assert worst <= 1e-5
    # The sentences of an image get masks of their own, so that a mix-up would be seen.
    differences = [
        np.abs(expected[a][0] - expected[b][0]).max()
        for rows in evaluator.groups
        for a, b in itertools.pairwise(rows)
        if split.text[a] != split.text[b]
    ]
    assert np.min(differences) > 1e-3

    # What evaluation itself says of every sentence.
    scores = evaluator.report(state, tmp_path, 2)
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert [p["sent_id"] for p in predictions] == list(range(len(expected)))
    uncertain = 0
    for prediction, (full, truth) in zip(predictions, expected, strict=True):
        counts = prediction["segmentation"]["counts"].encode()
        ours, theirs = masks.decode(counts, *truth.shape) > 0, full > threshold
        near = np.abs(full - threshold) <= NEAR
        uncertain += near.sum()
        assert (ours == theirs)[~near].all()
        assert abs(prediction["intersection"] - (theirs & truth).sum()) <= near.sum()
        assert abs(prediction["union"] - (theirs | truth).sum()) <= near.sum()
        assert prediction["intersection"] == (ours & truth).sum()
        assert prediction["union"] == (ours | truth).sum()
    assert uncertain <= 1e-3 * sum(truth.size for _, truth in expected)
    assert 0.1 < scores["miou"] < 0.9  # masks neither empty nor full

    # The same compiled steps with an encoding for each sentence.
    alone = dataclasses.replace(evaluator, groups=[np.array([row]) for row in rows_seen])
    theirs = alone.scores(state)
    assert theirs["sentences"] == scores["sentences"] == len(expected)
    for metric in ("oiou", "miou", "pointing"):
        assert theirs[metric] == pytest.approx(scores[metric], abs=1e-3)


@pytest.mark.parametrize("name", SENTENCES)
def test_each_image_is_decoded_and_encoded_once(name, monkeypatch):
    split = MadeSplit(SENTENCES[name])
    evaluator, _, state = make_evaluator(split)
    decoded, encoded = [], []

    def decode_image(jpeg):
        decoded.append(jpeg)
        return original(jpeg)

    def encode_step(state, image):
        encoded.extend(picture.tobytes() for picture in np.asarray(image))
        return evaluator.encode_step(state, image)

    original = image_ops.decode_image
    monkeypatch.setattr(image_ops, "decode_image", decode_image)
    dataclasses.replace(evaluator, encode_step=encode_step).scores(state)
    assert sorted(decoded) == sorted(record["image"] for record in split.records)
    n = len(split.records)
    assert len(encoded) == -(-n // B) * B
    # All different, but for the last one, which fills the last group up.
    assert len(set(encoded[:n])) == n
    assert set(encoded[n:]) <= {encoded[n - 1]}


@pytest.mark.parametrize(("dtype", "value"), [("float32", np.nan), ("bfloat16", 3e38)])
def test_outputs_that_are_not_finite_are_an_error(dtype, value):
    """Else each mask would be empty, and the score 0.00: bfloat16 overflows as float32 does."""
    split = MadeSplit(SENTENCES["few"])
    evaluator, _, state = make_evaluator(split, dtype=jnp.dtype(dtype))
    harmed = jax.tree.map(lambda p: p, state.params)
    kernel = harmed["segmenter"]["mask"]["kernel"]
    harmed["segmenter"]["mask"]["kernel"] = jnp.full_like(kernel, value)
    said = rf"not finite for \d+ of {len(split.index.text)} sentences .* \(model\.dtype={dtype}\)"
    with pytest.raises(NonFiniteOutputError, match=said):
        evaluator.scores(state.replace(params=harmed))


def test_a_lost_or_repeated_sentence_is_an_error():
    split = MadeSplit((2, 3))
    evaluator, _, state = make_evaluator(split)
    for groups in (evaluator.groups[:1], [*evaluator.groups, np.array([4])]):
        with pytest.raises(RuntimeError, match="lost or repeated"):
            dataclasses.replace(evaluator, groups=groups).scores(state)


@pytest.mark.slow
@pytest.mark.parametrize(
    "parts",
    [{"locate": "none"}, {"locate": "transformer", "rounds": 2}, {"locate": "word_filter"}],
    ids=lambda parts: parts["locate"],
)
def test_report_of_other_networks(parts, tmp_path):
    split = MadeSplit((2, 3))
    evaluator, _, state = make_evaluator(split, **parts)
    scores = evaluator.report(state, tmp_path, 2)
    located = parts["locate"] != "none"
    assert json.loads((tmp_path / "metrics.json").read_text()) == scores
    assert (scores["pointing"] is not None) == located
    assert (tmp_path / "gallery.png").stat().st_size > 0
    assert (tmp_path / "maps.png").exists() == located
    if located:
        # Image, then heatmaps, and 4 heads in 2 rounds or as many words as the longer sentence.
        drawn = [split.text[0], split.text[-1]]
        panels = 2 + 8 if "rounds" in parts else 1 + max(len(text.split()) for text in drawn)
        with Image.open(tmp_path / "maps.png") as picture:
            assert picture.width == (1 + panels) * (drawing.PANEL + drawing.MARGIN) + 12


@pytest.mark.slow
def test_any_number_of_devices_gives_the_same():
    split = MadeSplit(SENTENCES["many"])
    found = {}
    for n_devices in (1, 2, 8):
        evaluator, _, state = make_evaluator(split, n_devices)
        evaluator = dataclasses.replace(evaluator, batch_size=2)  # 6 groups of images
        found[n_devices] = evaluator.find(state, pictures=True)
    first = found.pop(1)
    assert 0 < first.intersection.sum() < first.union.sum()
    for other in found.values():
        for name in ("intersection", "union", "area", "point", "hit", "heatmap"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))
        assert other.counts == first.counts and other.curve == first.curve


@pytest.mark.slow
def test_images_larger_than_the_usual_canvas():
    """Each bucket of sizes has a canvas of its own; nothing is lost, and everything right."""
    split = MadeSplit((2, 1, 3, 1), sizes=[(50, 40), (20, 1300), (641, 33), (64, 64)])
    evaluator, model, state = make_evaluator(split)
    index = split.index
    canvases_ = [b.canvas for b in buckets.buckets(evaluator.groups, index.height, index.width)]
    assert canvases_ == [(64, 64), (20, 1304), (641, 40)]
    found = evaluator.find(state, pictures=True)
    sums = independent.check(
        model, state, evaluator.preprocessing, split, 0.5, found, range(len(split.text))
    )
    assert sums["sentences"] == 7 and sums["pointing differs"] == 0
    assert sums["differing"] <= sums["near"] <= 1e-4 * sums["pixels"]
    scores = evaluator.scores(state)
    assert scores["miou"] == pytest.approx(sums["miou"], abs=1e-4)


@pytest.mark.slow
def test_the_curve_is_what_other_thresholds_would_give():
    split = MadeSplit(SENTENCES["few"])
    evaluator, _, state = make_evaluator(split)
    curve = evaluator.find(state, pictures=True).curve
    assert curve["threshold"][4] == 0.25 and len(curve["oiou"]) == 19
    for threshold in (0.25, 0.5):
        at = curve["threshold"].index(threshold)
        scores = make_evaluator(split, threshold=threshold)[0].scores(state)
        assert scores["oiou"] == curve["oiou"][at]
        assert scores["miou"] == pytest.approx(curve["miou"][at], abs=1e-12)
