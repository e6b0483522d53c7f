"""Evaluation encodes each image once, and its results equal those of one sentence at a time."""

import dataclasses
import functools
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.data import buckets, examples, image_ops
from lts_jax.distributed.mesh import put_batch
from lts_jax.steps import inference, scoring
from tests.lts_jax.helpers import independent
from tests.lts_jax.helpers.made_split import SENTENCES, SIDE, B, MadeSplit, make_evaluator
from tfds_refcoco import masks

NEAR = 1e-5  # probabilities closer to the threshold are ignored


@functools.cache
def one_by_one(name):
    """Runs the network on one pair at a time: full-size probability and truth of each row."""
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

    result = []
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
        result.append((np.asarray(full[0, :h, :w]), truth))
    return result


@pytest.mark.parametrize(
    "n_devices",
    [
        pytest.param(1, marks=pytest.mark.slow),
        pytest.param(8, marks=pytest.mark.eight_devices),
    ],
)
@pytest.mark.parametrize("name", ["few", "many"])
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
    # The masks of an image's sentences differ, so that a mix-up is detected.
    differences = [
        np.abs(expected[a][0] - expected[b][0]).max()
        for rows in evaluator.groups
        for a, b in itertools.pairwise(rows)
        if split.text[a] != split.text[b]
    ]
    assert np.min(differences) > 1e-3

    # The evaluator's results for every sentence.
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
    assert 0.1 < scores["miou"] < 0.9  # masks are neither empty nor full

    # The same compiled steps, but with one encoding per sentence.
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
    # All differ, except for copies of the last one, which pad the last group.
    assert len(set(encoded[:n])) == n
    assert set(encoded[n:]) <= {encoded[n - 1]}


@pytest.mark.eight_devices
def test_results_do_not_depend_on_the_number_of_devices():
    split = MadeSplit(SENTENCES["many"])
    result = {}
    for n_devices in (1, 2, 8):
        evaluator, _, state = make_evaluator(split, n_devices)
        evaluator = dataclasses.replace(evaluator, batch_size=2)  # 6 groups of images
        result[n_devices] = evaluator.find(state, pictures=True)
    first = result.pop(1)
    assert 0 < first.intersection.sum() < first.union.sum()
    for other in result.values():
        for name in ("intersection", "union", "area", "point", "hit", "heatmap"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))
        assert other.counts == first.counts and other.curve == first.curve


@pytest.mark.slow
def test_images_larger_than_the_usual_canvas():
    """Each size bucket has its own canvas; all sentences are scored correctly."""
    split = MadeSplit((2, 1, 3, 1), sizes=[(50, 40), (20, 1300), (641, 33), (64, 64)])
    evaluator, model, state = make_evaluator(split)
    index = split.index
    canvases_ = [b.canvas for b in buckets.buckets(evaluator.groups, index.height, index.width)]
    assert canvases_ == [(64, 64), (20, 1304), (641, 40)]
    result = evaluator.find(state, pictures=True)
    sums = independent.check(
        model, state, evaluator.preprocessing, split, 0.5, result, range(len(split.text))
    )
    assert sums["sentences"] == 7 and sums["pointing differs"] == 0
    assert sums["differing"] <= sums["near"] <= 1e-4 * sums["pixels"]
    scores = evaluator.scores(state)
    assert scores["miou"] == pytest.approx(sums["miou"], abs=1e-4)
