"""Reports of the evaluation for different networks, and its errors."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lts_jax.errors import NonFiniteOutputError
from lts_jax.evaluation import results
from lts_jax.experiment import thresholds
from lts_jax.io import drawing
from tests.lts_jax.helpers.made_split import SENTENCES, MadeSplit, make_evaluator


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        ("float32", np.nan),
        pytest.param("bfloat16", 3e38, marks=pytest.mark.slow),
    ],
)
def test_outputs_that_are_not_finite_are_an_error(dtype, value):
    """Otherwise each mask would be empty and the score 0.00."""
    split = MadeSplit(SENTENCES["few"])
    evaluator, _, state = make_evaluator(split, dtype=jnp.dtype(dtype))
    harmed = jax.tree.map(lambda p: p, state.params)
    kernel = harmed["segmenter"]["mask"]["kernel"]
    harmed["segmenter"]["mask"]["kernel"] = jnp.full_like(kernel, value)
    message = (
        rf"not finite for \d+ of {len(split.index.text)} sentences .* \(model\.dtype={dtype}\)"
    )
    with pytest.raises(NonFiniteOutputError, match=message):
        evaluator.scores(state.replace(params=harmed))


def test_a_lost_or_repeated_sentence_is_an_error():
    split = MadeSplit((2, 3))
    evaluator, _, state = make_evaluator(split)
    for groups in (evaluator.groups[:1], [*evaluator.groups, np.array([4])]):
        with pytest.raises(RuntimeError, match="more than once or not at all"):
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
        # Image, heatmaps, and maps of 4 heads in 2 rounds or of the words of the longer sentence.
        drawn = [split.text[0], split.text[-1]]
        panels = 2 + 8 if "rounds" in parts else 1 + max(len(text.split()) for text in drawn)
        with Image.open(tmp_path / "maps.png") as picture:
            assert picture.width == (1 + panels) * (drawing.PANEL + drawing.MARGIN) + 12


@pytest.mark.slow
def test_the_curve_and_the_second_threshold_equal_evaluations_at_other_thresholds(tmp_path):
    split = MadeSplit(SENTENCES["few"])
    evaluator, _, state = make_evaluator(split, threshold=0.25, other=0.5)
    evaluator.report(state, tmp_path, 0)
    result = evaluator.find(state, pictures=True)
    assert result.curve["threshold"][4] == 0.25 and len(result.curve["oiou"]) == 19
    assert evaluator.find(state, pictures=False).curve == result.curve
    for threshold, both in ((0.25, result), (0.5, result.other)):
        at = result.curve["threshold"].index(threshold)
        alone = make_evaluator(split, threshold=threshold)[0].find(state, pictures=True)
        scores = results.summarize(split, alone)
        assert scores["oiou"] == result.curve["oiou"][at]
        assert scores["miou"] == pytest.approx(result.curve["miou"][at], abs=1e-12)
        assert both.counts == alone.counts and both.threshold.value == threshold
        np.testing.assert_array_equal(both.boxes, alone.boxes)
        assert both.scores(split).summarize() == alone.scores(split).summarize()
    metrics, analysis, (entry, *_) = (
        json.loads((tmp_path / f"{name}.json").read_text())
        for name in ("metrics", "analysis", "predictions")
    )
    assert [thresholds.name_of(part) for part in (metrics, metrics["other"])] == [
        "0.25",
        "0.5, best on val",
    ]
    assert metrics["other"]["oiou"] == result.other.scores(split).summarize()["oiou"]
    low, high = analysis["other"]["intervals"]["oiou"]
    assert low <= metrics["other"]["oiou"] <= high
    assert entry["segmentation"]["counts"] == result.counts[0]
    assert entry["other"]["segmentation"]["counts"] == result.other.counts[0]
    assert entry["other"]["intersection"] == result.other.intersection[0]
