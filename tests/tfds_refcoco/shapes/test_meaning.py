"""Parses the generated English and checks that it refers only to the referent.

The tests do not use the programs: shape and geometry come from instances.json, colour and texture
from a regenerated scene, and `reading.py` implements the meaning of each word independently.
"""

from collections import Counter, defaultdict

import numpy as np
import pytest

from tests.tfds_refcoco.shapes.reading import BIG, COLOURS, SHAPES, SMALL, TEXTURES, read
from tfds_refcoco.shapes.sample import sample

pytestmark = pytest.mark.slow  # the fixture parses more than a thousand sentences

LOCATIONS = dict.fromkeys(("side", "corner"), "location")  # per kind of program


@pytest.fixture(scope="module")
def readings(raw) -> list[tuple[str, str]]:
    """Returns (sentence, kind) of every sentence after checking that it identifies its referent.

    The parsed kind must equal the recorded kind.
    """
    images = {image["id"]: image for image in raw.instances["images"]}
    names = {category["id"]: category["name"] for category in raw.instances["categories"]}
    annotations = defaultdict(list)
    for annotation in raw.instances["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    seen = []
    for ref in raw.refs:
        image_id = ref["image_id"]
        image = images[image_id]
        position, number = divmod(image_id, 1_000_000)
        scene, _ = sample(np.random.default_rng([3, position - 1, number]), ref["split"])
        things = []
        for annotation, drawn in zip(annotations[image_id], scene.things, strict=True):
            x, y, w, h = annotation["bbox"]
            x, y = x + w / 2, y + h / 2
            things.append(
                {
                    "id": annotation["id"],
                    "shape": names[annotation["category_id"]],
                    "colour": drawn.colour,
                    "texture": drawn.texture,
                    "area": annotation["area"],
                    **{"x": x, "y": y, "w": w, "h": h},
                    **{"u": x / image["width"], "v": y / image["height"]},
                }
            )
        for sentence in ref["sentences"]:
            kind, meant = read(sentence["sent"], things)
            assert [t["id"] for t in meant] == [ref["ann_id"]], (sentence["sent"], image_id)
            assert sentence["kind"] == kind, sentence["sent"]
            seen.append((sentence["sent"], kind))
    return seen


def test_sentences_refer_only_to_their_referent(readings):
    assert len(readings) > 1000


def named_kinds(readings) -> list[tuple[str, str]]:
    """Returns pairs of a sentence and its kind without the specific word."""
    return [(sent, kind.partition(":")[0]) for sent, kind in readings]


def test_fractions_of_kinds(readings):
    counts = Counter(LOCATIONS.get(name, name) for _, name in named_kinds(readings))
    wanted = {"attribute": 0.34, "location": 0.36, "size": 0.11, "ordinal": 0.07, "relation": 0.12}
    for kind, share in wanted.items():
        assert counts[kind] / len(readings) == pytest.approx(share, abs=0.05), counts


def test_every_word_of_the_parser_is_used(readings):
    words = {word for sent, _ in readings for word in sent.split()}
    assert words >= {*SHAPES, *COLOURS, *TEXTURES, *BIG, *SMALL}


def test_kinds_differ_within_a_referent(raw, readings):
    kinds = iter(LOCATIONS.get(name, name) for _, name in named_kinds(readings))
    for ref in raw.refs:
        of_ref = [next(kinds) for _ in ref["sentences"]]
        assert len(set(of_ref)) == len(of_ref)
