"""The kinds of expressions: from their words, and in the tables of an evaluation."""

import json
import pickle
from collections import defaultdict

import numpy as np
import pytest

from lts_jax.evaluation import kinds
from tfds_refcoco.shapes.sample import sample


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("second star from the left", ["ordinal: second"]),
        ("3rd from right", ["ordinal: third"]),
        ("man in red shirt, right next to the tree", ["relation: next to", "colour"]),
        ("left of the tree", ["relation: left of"]),
        ("person on the far left", ["side: left"]),
        ("man on bike", ["relation: on"]),
        ("person standing behind girl on left", ["relation: behind", "side: left"]),
        ("the upper-right corner dog", ["corner: top right"]),
        ("left bottom bowl", ["corner: bottom left"]),
        ("big cat sitting on top of box", ["relation: above", "size: biggest"]),
        ("guy with the baby", ["relation: with"]),
        ("guy", []),
        ("", []),
        ("bye bye", []),  # no "by"
    ],
)
def test_by_words(text, expected):
    assert kinds.by_words(text) == expected


def test_kinds_from_words_equal_those_of_the_generator():
    """For hundreds of sentences; "with stripes" is not a relation there."""
    seen = set()
    for number in range(150):
        _, referents = sample(np.random.default_rng([7, number]), "train")
        for text, _, recorded in (s for referent in referents for s in referent.sentences):
            result = set(kinds.by_words(text)) - {"colour", "relation: with"}
            assert result == {recorded} - {"attribute"}, text
            seen.add(recorded)
    assert len(seen) == 1 + 5 + 4 + 2 + 2 + 5


def test_groups():
    texts = ["left", "cup on the table", "red cup by the dog", "it"]
    result = kinds.groups(texts, [""] * 4)
    assert {name: rows.tolist() for name, rows in result.items()} == {
        "colour": [False, False, True, False],
        "relation": [False, True, True, False],
        "relation: next to": [False, False, True, False],
        "relation: on": [False, True, False, False],
        "side": [True, False, False, False],
        "side: left": [True, False, False, False],
        "none of these": [False, False, False, True],
    }
    assert list(result) == sorted(result, key=lambda name: (name == "none of these", name))
    recorded = ["side: left, new wording", "relation: on", "relation: on, new wording", ""]
    result = kinds.groups(texts, recorded)
    assert {name: np.flatnonzero(rows).tolist() for name, rows in result.items()} == {
        "relation": [1],
        "relation: on": [1],
        "relation, new wording": [2],
        "relation: on, new wording": [2],
        "side, new wording": [0],
        "side: left, new wording": [0],
    }


@pytest.mark.parametrize("split", ["val", "testA", "testB"])
def test_the_table_matches_the_predictions_and_the_generators_record(
    trained_run, shapes_dir, split
):
    """Recomputes the table from the raw file from which the dataset was built."""
    refs = pickle.loads((shapes_dir / "raw" / "shapes" / "refs(unc).p").read_bytes())
    recorded = {
        sentence["sent_id"]: sentence["kind"]
        for ref in refs
        if ref["split"] == split
        for sentence in ref["sentences"]
    }
    folder = trained_run / "eval" / split
    predictions = json.loads((folder / "predictions.json").read_text())
    assert {entry["sent_id"]: entry["kind"] for entry in predictions} == recorded
    analysis = json.loads((folder / "analysis.json").read_text())
    for table, of_entry in (
        (analysis, lambda entry: entry),
        (analysis["other"], lambda entry: entry["other"]),
    ):
        wanted = defaultdict(list)
        for entry in predictions:
            kind = recorded[entry["sent_id"]]
            for name in {kind, kind.split(":")[0]}:
                wanted[name].append(of_entry(entry))
        groups = {group["group"]: group for group in table["breakdowns"]["kind"]}
        assert groups.keys() == wanted.keys() and {"side", "relation"} < groups.keys()
        for name, entries in wanted.items():
            both, either = (sum(e[k] for e in entries) for k in ("intersection", "union"))
            ious = [e["intersection"] / e["union"] for e in entries]
            result = groups[name]
            assert result["sentences"] == len(entries)
            assert result["oiou"] == pytest.approx(both / either, abs=1e-12)
            assert result["miou"] == pytest.approx(sum(ious) / len(ious), abs=1e-12)
            above = sum(iou > 0.5 for iou in ious)
            assert result["prec@0.5"] == pytest.approx(above / len(ious), abs=1e-12)
