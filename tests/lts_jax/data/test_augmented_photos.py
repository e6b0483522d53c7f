"""Mirroring and cropping of photo-like scenes: sentences still refer to their object only."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from lts_jax.data.augmentation import Augmentation, Draw
from tests.tfds_refcoco.expressions.reading import Reader, Seen
from tests.tfds_refcoco.expressions.test_meaning import CATEGORIES, Drawn, H, W, scenes
from tfds_refcoco import masks
from tfds_refcoco.expressions.sample import sample_referents
from tfds_refcoco.expressions.scene import make_scene
from tfds_refcoco.expressions.views import view_pixels
from tfds_refcoco.expressions.words import make_vocabulary
from tfds_refcoco.records.text import tokenize

VOCABULARY = make_vocabulary(set(CATEGORIES))


def check_scene(drawn: Drawn, augmentation: Augmentation, per_image: int) -> Counter[str]:
    """Interprets the sentences of an augmented scene; returns their number by kind."""
    scene = make_scene(drawn.annotations, W, H, drawn.pixels)
    rng = np.random.default_rng(drawn.seed)
    made = sample_referents(rng, scene, VOCABULARY, held_back=drawn.held_back)
    expressions = [(referent.index, e) for referent in made for e in referent.expressions]
    of_things = [masks.decode(a.counts, H, W) for a in drawn.annotations]
    kinds: Counter[str] = Counter()
    for first in range(0, len(expressions), per_image):
        part = expressions[first : first + per_image]
        words = [tokenize(expression.text) for _, expression in part]
        referents = [of_things[index] for index, _ in part]
        view, kept, texts = augmentation.plan(Draw(0, 0, drawn.seed), words, referents)
        seen = [
            Seen(a.ann_id, a.category, shown > 0, a.crowd)
            for a, mask in zip(drawn.annotations, of_things, strict=True)
            if (shown := view_pixels(mask, view)).any()
        ]
        reader = Reader(seen, view_pixels(drawn.pixels, view))
        for number, text in zip(kept, texts, strict=True):
            index, expression = part[number]
            read = reader.read(" ".join(text))
            assert read == [drawn.annotations[index].ann_id], (expression, text, view)
            kinds[expression.kind.partition(":")[0]] += 1
    return kinds


def check_scenes(examples: int) -> Counter[str]:
    kinds: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
    )
    @given(scenes())
    def check(drawn):
        for per_image in (1, 3):
            for augmentation in (Augmentation(flip=1.0), Augmentation(crop=1.0)):
                kinds.update(check_scene(drawn, augmentation, per_image))

    check()
    return kinds


def test_sentences_of_some_scenes_mean_one_object():
    assert check_scenes(15)["side"]


@pytest.mark.slow
def test_sentences_of_many_scenes_mean_one_object():
    kinds = check_scenes(500)
    assert set(kinds) >= {"side", "corner", "colour", "size", "ordinal", "relation", "category"}
