"""English expressions for programs: short and telegraphic, as in RefCOCO."""

from collections.abc import Sequence

import numpy as np

from tfds_refcoco.shapes.language import (
    Attribute,
    Location,
    Noun,
    Order,
    Program,
    Relation,
    Size,
)

# The first word is the default; see SYNONYM.
SHAPE_WORDS = {
    "circle": ("circle", "ball"),
    "square": ("square", "box"),
    "cross": ("cross", "plus"),
}
TEXTURE_WORDS = {
    "solid": ("plain", "solid"),
    "striped": ("striped", "stripy"),
    "dotted": ("dotted", "spotted"),
    "checkered": ("checkered", "checked"),
}
TEXTURE_TAILS = {"striped": "with stripes", "dotted": "with dots", "checkered": "with checks"}
GENERIC = ("object", "shape", "thing", "one")
SYNONYM = 0.1  # probability of the second word
TAIL = 0.25  # probability that a texture follows its noun
ARTICLE = 0.15  # probability of a leading "the"

# {n} is the noun phrase, {a} the anchor's.
LOCATION = {
    "left": (
        "left {n}|{n} on the left|{n} on left|leftmost {n}|far left {n}|{n} to the left"
        "|{n} on the far left|{n} on the left side|left most {n}"
    ),
    "right": (
        "right {n}|{n} on the right|{n} on right|rightmost {n}|far right {n}|{n} to the right"
        "|{n} on the far right|{n} on the right side|right most {n}"
    ),
    "top": "top {n}|{n} on top|{n} at the top|{n} at top|highest {n}|topmost {n}|upper {n}",
    "bottom": "bottom {n}|{n} at the bottom|{n} on the bottom|{n} at bottom|lowest {n}|lower {n}",
    "middle": "middle {n}|{n} in the middle|center {n}|{n} in middle|{n} in the center",
}
CORNER = (
    "{v} {h} {n}|{v} {h} {n}|{n} {v} {h}|{n} in the {v} {h} corner|{n} at the {v} {h}"
    "|{v} {h} corner {n}"
)
BARE_LOCATION = {
    "left": "far left|left|on the left",
    "right": "far right|right|on the right",
    "top": "top|at the top",
    "bottom": "bottom|at the bottom",
    "middle": "middle|in the middle|center",
}
SIZE = {
    True: "biggest {n}|biggest {n}|largest {n}|big {n}|large {n}",
    False: "smallest {n}|smallest {n}|tiniest {n}|small {n}|little {n}",
}
ORDER = "{r} {n} from the {s}|{r} {n} from {s}|{n} {r} from the {s}|{n} {r} from {s}"
RANK_WORDS = {2: ("second", "2nd"), 3: ("third", "3rd")}
RELATION = {
    "left of": "{n} left of the {a}|{n} to the left of the {a}|{n} left of {a}",
    "right of": "{n} right of the {a}|{n} to the right of the {a}|{n} right of {a}",
    "above": "{n} above the {a}|{n} above the {a}|{n} above {a}|{n} over the {a}",
    "below": "{n} below the {a}|{n} under the {a}|{n} below {a}|{n} beneath the {a}",
    "next to": "{n} next to the {a}|{n} next to {a}|{n} near the {a}|{n} closest to the {a}"
    "|{n} beside the {a}",
}
BARE = 0.15  # probability of omitting a generic noun


def verbalise(program: Program, rng: np.random.Generator) -> str:
    """Returns a random phrasing of `program`: lower case, no punctuation."""
    noun = _noun_phrase(program.noun, rng)
    bare = program.noun == Noun() and rng.random() < BARE
    match program:
        case Attribute():
            words = noun
        case Location(where=where) if " " in where:
            vertical, horizontal = where.split()
            if rng.random() < SYNONYM:
                vertical = {"top": "upper", "bottom": "lower"}[vertical]
            template = "{v} {h}|{v} {h} corner" if bare else CORNER
            words = _pick(template.split("|"), rng)
            words = words.format(n=noun, v=vertical, h=horizontal)
        case Location(where=where):
            template = (BARE_LOCATION if bare else LOCATION)[where]
            words = _pick(template.split("|"), rng).format(n=noun)
        case Size(biggest=biggest):
            words = _pick(SIZE[biggest].split("|"), rng).format(n=noun)
        case Order(rank=rank, side=side):
            template = "{r} from the {s}|{r} from {s}" if bare else ORDER
            words = _pick(template.split("|"), rng)
            words = words.format(n=noun, r=_word(RANK_WORDS[rank], rng), s=side)
        case Relation(relation=relation, anchor=anchor):
            words = _pick(RELATION[relation].split("|"), rng)
            words = words.format(n=noun, a=_noun_phrase(anchor, rng))
    article = not bare and rng.random() < ARTICLE
    return f"the {words}" if article else words


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]


def _word(options: Sequence[str], rng: np.random.Generator) -> str:
    """Returns the first word, or with probability SYNONYM the last one."""
    return options[0] if rng.random() >= SYNONYM else options[-1]


def _noun_phrase(noun: Noun, rng: np.random.Generator) -> str:
    if noun.shape is None:
        adjectives = noun.colour or noun.texture
        head = _pick(GENERIC if adjectives else GENERIC[:3], rng)
    else:
        head = _word(SHAPE_WORDS.get(noun.shape, (noun.shape,)), rng)
    words = [noun.colour, head]
    if noun.texture in TEXTURE_TAILS and rng.random() < TAIL:
        words.append(TEXTURE_TAILS[noun.texture])
    elif noun.texture is not None:
        # "striped red star" as well as "red striped star"
        words.insert(int(rng.integers(2)), _word(TEXTURE_WORDS[noun.texture], rng))
    return " ".join(word for word in words if word)
