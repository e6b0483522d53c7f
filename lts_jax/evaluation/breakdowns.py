"""Metrics by sentence length, words, object size, same-category objects, category and kind."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from lts_jax.evaluation import bootstrap, kinds
from lts_jax.evaluation.bootstrap import Scores
from tfds_refcoco.records.split import Split
from tfds_refcoco.records.text import tokenize

LENGTHS = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 7), (8, 10), (11, None))  # words
SMALL, MEDIUM = 32**2, 96**2  # pixels, COCO's limits: small < 32², medium < 96²
RIVALS = 5  # the last group has this many objects of the category, or more
DRAWS = 1000
_NONE = "no target"  # in gRefCOCO; the mIoU of this group is the share of empty predictions

_LOCATION = """left right top bottom upper lower middle center centre front back far near nearest
closest furthest farthest corner side edge end background foreground above below first second third
fourth fifth last leftmost rightmost topmost bottommost"""
_COLOUR = """red orange yellow green blue purple violet pink brown black white gray grey tan beige
gold golden silver maroon teal turquoise cyan magenta blond blonde dark light striped plaid colored
colorful multicolored"""
_RELATION = """above behind below beneath beside between against around by facing holding next near
nearest closest on over under touching wearing with riding carrying eating watching inside outside
across along"""
WORDS: Mapping[str, frozenset[str]] = {
    "location": frozenset(_LOCATION.split()),
    "colour": frozenset(_COLOUR.split()),
    "relation": frozenset(_RELATION.split()),
}

KINDS = ("length", "size", "words", "same_category", "category", "kind")
"""The groupings."""


class Facts(NamedTuple):
    """Attributes of N sentences, in the order of the split's index."""

    area: np.ndarray  # int [N], pixels of the ground truth
    category: np.ndarray  # str [N], of the first target; "" without a target
    same_category: np.ndarray  # int [N], objects of that category in the image
    kind: np.ndarray  # str [N], the kind recorded by the dataset, or ""


def facts(split: Split) -> Facts:
    """Returns the attributes of the sentences of a split."""
    index = split.index
    return Facts(index.area, np.array(index.category), index.same_category, np.array(index.kind))


def break_down(
    texts: list[str], sentence_facts: Facts, scores: Scores
) -> dict[str, list[dict[str, Any]]]:
    """Computes the metrics of every non-empty group.

    Args:
      texts: the sentences.
      sentence_facts: their attributes.
      scores: their scores.

    Returns:
      For each of `KINDS` a list of `group`, `sentences`, `images`, the metrics and their 95 %
      `intervals`. A sentence is in exactly one group, except for "words" and "kind": there it is
      in each group that matches, or in "none of these"; see `lts_jax.evaluation.kinds`.
    """
    words = [tokenize(text) for text in texts]
    length = np.array([max(1, len(of_one)) for of_one in words])
    groups: dict[str, dict[str, np.ndarray]] = {
        "length": {
            _span(low, high): (length >= low) & (length <= (high or np.inf))
            for low, high in LENGTHS
        },
        "size": {
            _NONE: sentence_facts.area == 0,
            "small": (sentence_facts.area > 0) & (sentence_facts.area < SMALL),
            "medium": (sentence_facts.area >= SMALL) & (sentence_facts.area < MEDIUM),
            "large": sentence_facts.area >= MEDIUM,
        },
        "words": {
            kind: np.array([not known.isdisjoint(of_one) for of_one in words])
            for kind, known in WORDS.items()
        },
        "same_category": {
            _NONE: sentence_facts.same_category == 0,
            **{
                str(k) if k < RIVALS else f"{k} and more": (
                    sentence_facts.same_category == k
                    if k < RIVALS
                    else sentence_facts.same_category >= k
                )
                for k in range(1, RIVALS + 1)
            },
        },
        "category": {
            name or _NONE: sentence_facts.category == name
            for name in np.unique(sentence_facts.category).tolist()
        },
        "kind": kinds.groups(texts, sentence_facts.kind.tolist()),
    }
    groups["words"][kinds.NONE] = ~np.any(list(groups["words"].values()), axis=0)
    result = {
        kind: [_group(name, rows, scores) for name, rows in of_kind.items() if rows.any()]
        for kind, of_kind in groups.items()
    }
    result["category"].sort(key=lambda group: -group["sentences"])
    return result


def _group(name: str, rows: np.ndarray, scores: Scores) -> dict[str, Any]:
    chosen = scores.take(rows)
    return {
        "group": name,
        "sentences": len(chosen.image_id),
        "images": len(np.unique(chosen.image_id)),
        **chosen.summarize(),
        "intervals": bootstrap.intervals(chosen, DRAWS),
    }


def _span(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} and more"
    return str(low) if low == high else f"{low} to {high}"
