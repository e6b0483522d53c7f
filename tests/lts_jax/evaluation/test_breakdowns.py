import numpy as np

from lts_jax.evaluation import breakdowns
from lts_jax.evaluation.bootstrap import Scores
from lts_jax.evaluation.breakdowns import Facts


def test_groups():
    texts = ["man", "red cup on the left", "the dog next to a man", "a b c d e f g h i j k l", ""]
    facts = Facts(
        np.array([1023, 1024, 9216, 9215, 0]),
        np.array(["person", "cup", "dog", "cup", ""]),
        np.array([1, 2, 7, 5, 0]),
        np.array(["", "side: left", "relation", "side: top", ""]),
    )
    n = len(texts)
    scores = Scores(np.arange(n), np.arange(n), np.full(n, 4), None)
    result = breakdowns.break_down(texts, facts, scores)
    counts = {k: {g["group"]: g["sentences"] for g in v} for k, v in result.items()}
    assert counts == {
        "length": {"1": 2, "4 to 5": 1, "6 to 7": 1, "11 and more": 1},
        "size": {"no target": 1, "small": 1, "medium": 2, "large": 1},
        "words": {"location": 1, "colour": 1, "relation": 2, "none of these": 3},
        "same_category": {"no target": 1, "1": 1, "2": 1, "5 and more": 2},
        "category": {"cup": 2, "no target": 1, "dog": 1, "person": 1},
        "kind": {"relation": 1, "side": 2, "side: left": 1, "side: top": 1},
    }
    cup = result["category"][0]
    assert cup["oiou"] == cup["miou"] == (1 + 3) / 8
    assert cup["intervals"]["miou"] == [0.25, 0.75]
    assert cup["intervals"]["pointing"] is None


def test_facts_equal_the_records(shapes_data):
    split = shapes_data.split("val")
    facts = breakdowns.facts(split)
    assert len(facts.area) == len(facts.category) == len(split.index.text)
    assert (facts.area > 0).all() and (facts.same_category > 0).all()
    names = {kind.partition(":")[0] for kind in facts.kind}
    assert names <= {"attribute", "side", "corner", "size", "ordinal", "relation"}
    assert set(facts.category) <= {"circle", "square", "triangle", "star", "heart", "cross"}
