"""What evaluation reports of any network, and what it refuses to report."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lts_jax.errors import NonFiniteOutputError
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
