"""English expressions for programs: short and telegraphic, as in RefCOCO.

Each kind has usual wordings, and held-back wordings that `train` never contains. Accuracy on
held-back wordings in `val` measures generalization to new wordings.
"""

from collections.abc import Sequence

import numpy as np

from tfds_refcoco.expressions.language import (
    Category,
    Colour,
    Noun,
    Ordinal,
    Place,
    Program,
    Relation,
    Side,
    Size,
)
from tfds_refcoco.expressions.words import plural, with_article

ARTICLE = 0.2  # probability of a leading "the"
HELD_BACK = ", new wording"  # suffix of the kind of a held-back wording

# {n} is the noun phrase, {p} its plural, {a} the anchor, {A} the anchor with "a" or "an".
_Wordings = tuple[str, str]  # usual and held-back wordings; separated by |

CATEGORY: _Wordings = ("{n}", "only {n}|{n} in the picture")
COLOUR: _Wordings = ("{n}", "{n}")  # the noun phrase differs
SIDE: dict[str, _Wordings] = {
    "left": (
        "left {n}|{n} on the left|{n} on left|{n} to the left|{n} left",
        "left side {n}|{n} on the left side|{n} on the left hand side",
    ),
    "right": (
        "right {n}|{n} on the right|{n} on right|{n} to the right|{n} right",
        "right side {n}|{n} on the right side|{n} on the right hand side",
    ),
    "top": ("top {n}|upper {n}|{n} at the top|{n} at top", "{n} in the upper part|{n} up top"),
    "bottom": (
        "bottom {n}|lower {n}|{n} at the bottom|{n} at bottom",
        "{n} in the lower part|{n} down at the bottom",
    ),
    "middle": (
        "middle {n}|{n} in the middle|{n} in middle",
        "{n} in between|{n} between the other two",
    ),
}
FARTHEST: dict[str, _Wordings] = {
    "left": (
        "leftmost {n}|far left {n}|{n} on the far left|{n} on far left|{n} farthest left",
        "{n} furthest to the left|left most {n}",
    ),
    "right": (
        "rightmost {n}|far right {n}|{n} on the far right|{n} on far right|{n} farthest right",
        "{n} furthest to the right|right most {n}",
    ),
    "top": ("topmost {n}|highest {n}|{n} at the very top", "uppermost {n}|top most {n}"),
    "bottom": ("bottommost {n}|lowest {n}|{n} at the very bottom", "lowermost {n}|bottom most {n}"),
}
ORDINAL: _Wordings = (
    "{r} {n} from the {s}|{r} {n} from {s}|{n} {r} from the {s}|{n} {r} from {s}",
    "{r} {n} counting from the {s}|{r} {n} in from the {s}",
)
RANKS = {1: ("first", "1st"), 2: ("second", "2nd"), 3: ("third", "3rd")}
SIZE: dict[tuple[bool, bool], _Wordings] = {  # (biggest, of two)
    (True, True): (
        "bigger {n}|bigger {n}|larger {n}|big {n}|large {n}",
        "bigger of the two {p}|{n} that is larger",
    ),
    (False, True): (
        "smaller {n}|smaller {n}|small {n}|little {n}",
        "smaller of the two {p}|{n} that is smaller",
    ),
    (True, False): (
        "biggest {n}|biggest {n}|largest {n}|big {n}",
        "biggest of the {p}|{n} that is the largest",
    ),
    (False, False): (
        "smallest {n}|smallest {n}|littlest {n}|tiniest {n}",
        "smallest of the {p}|{n} that is the smallest",
    ),
}
CORNER: _Wordings = (
    "{v} {h} {n}|{n} in the {v} {h}|{n} in the {v} {h} corner|{n} {v} {h}|{n} at {v} {h}"
    "|{v} {h} corner {n}",
    "{n} in the corner at the {v} {h}|{n} at the {v} {h} of the picture",
)
VERTICAL = {"top": ("top", "upper"), "bottom": ("bottom", "lower")}
CENTRE: _Wordings = (
    "{n} in the center|center {n}|{n} in center|{n} in the middle of the picture",
    "central {n}|{n} at the center of the photo",
)
RELATION: dict[str, _Wordings] = {
    "next to": (
        "{n} next to the {a}|{n} next to {a}|{n} beside the {a}|{n} by the {a}|{n} near the {a}",
        "{n} right by the {a}|{n} close to the {a}|{n} alongside the {a}",
    ),
    "left of": (
        "{n} left of the {a}|{n} to the left of the {a}|{n} left of {a}",
        "{n} on the left of the {a}",
    ),
    "right of": (
        "{n} right of the {a}|{n} to the right of the {a}|{n} right of {a}",
        "{n} on the right of the {a}",
    ),
    "above": ("{n} above the {a}|{n} above {a}", "{n} higher up than the {a}"),
    "below": ("{n} below the {a}|{n} below {a}", "{n} lower down than the {a}"),
    "on": ("{n} on the {a}|{n} on {a}|{n} on top of the {a}", "{n} that is on the {a}"),
    "with": ("{n} with the {a}|{n} with {A}|{n} with {a}", "{n} that has the {a}|{n} who has {A}"),
}
# Nouns for people with one of these objects.
ROLES = {
    "surfboard": "surfer",
    "skateboard": "skateboarder",
    "skis": "skier",
    "snowboard": "snowboarder",
    "tennis racket": "tennis player",
    "baseball bat": "batter",
}
ROLE = 0.35  # probability of that noun
# Common words for people. Annotations contain neither sex nor age nor the clothes with a colour, so
# these words may be wrong, but the object is still the only possible referent.
LOOSE_NOUNS = {"person": "man|man|guy|guy|woman|woman|lady|girl|boy|kid|dude"}
LOOSE = 0.75  # probability of one of them
LOOSE_COLOUR = "{n} in {c}|{n} in {c} shirt|{n} {c} shirt|{c} shirt {n}|{c} shirt"


def verbalise(
    program: Program,
    category: str,
    rng: np.random.Generator,
    *,
    held_back: bool,
    loose: bool = False,
) -> str:
    """Returns a random wording of `program`: lower case, no punctuation.

    Args:
      program: the program to verbalise.
      category: category of the object; colours of people refer to their clothes.
      rng: random generator.
      held_back: whether to use a held-back wording.
      loose: whether to use `LOOSE_NOUNS` for people.
    """
    if loose and rng.random() < LOOSE:
        noun = _loose_phrase(program.noun, rng)
    else:
        noun = _noun_phrase(program.noun, category, rng, held_back and isinstance(program, Colour))

    def pick(wordings: _Wordings) -> str:
        return _pick(wordings[held_back].split("|"), rng)

    match program:
        case Category():
            words = pick(CATEGORY).format(n=noun)
        case Colour():
            words = pick(COLOUR).format(n=noun)
        case Side(side=side, farthest=farthest):
            words = pick((FARTHEST if farthest else SIDE)[side]).format(n=noun)
        case Ordinal(rank=rank, side=side):
            rank_word = RANKS[rank][rng.random() < 0.15]
            words = pick(ORDINAL).format(n=noun, r=rank_word, s=side)
        case Size(biggest=biggest, of_two=of_two):
            words = pick(SIZE[biggest, of_two])
            words = words.format(n=noun, p=_plural(program.noun, category))
        case Place(place="centre"):
            words = pick(CENTRE).format(n=noun)
        case Place(place=place):
            vertical, horizontal = place.split()
            vertical = _pick(VERTICAL[vertical], rng)
            words = pick(CORNER).format(n=noun, v=vertical, h=horizontal)
        case Relation(relation=relation, anchor=anchor):
            role = ROLES.get(anchor.word) if relation == "with" and category == "person" else None
            if role and program.noun.colour is None and not held_back and rng.random() < ROLE:
                words = role
            else:
                a = _loosely(anchor.word, rng) if loose else anchor.word
                words = pick(RELATION[relation]).format(n=noun, a=a, A=with_article(a))
    return f"the {words}" if rng.random() < ARTICLE else words


def _noun_phrase(noun: Noun, category: str, rng: np.random.Generator, held_back: bool) -> str:
    word, colour = noun.word, noun.colour
    if colour is None:
        return word
    if category == "person":
        usual = "{n} in {c}|{n} in {c}|{n} wearing {c}"
        phrases = "{n} dressed in {c}|{n} with {c} clothes" if held_back else usual
    else:
        phrases = "{c} colored {n}|{n} that is {c}" if held_back else "{c} {n}"
    return _pick(phrases.split("|"), rng).format(n=word, c=colour)


def _loose_phrase(noun: Noun, rng: np.random.Generator) -> str:
    word, colour = _loosely(noun.word, rng), noun.colour
    if colour is None or word == noun.word:
        return f"{colour} {word}" if colour else word
    return _pick(LOOSE_COLOUR.split("|"), rng).format(n=word, c=colour)


def _loosely(word: str, rng: np.random.Generator) -> str:
    return _pick(LOOSE_NOUNS.get(word, word).split("|"), rng)


def _plural(noun: Noun, category: str) -> str:
    words = plural(noun.word)
    if noun.colour is None:
        return words
    return f"{words} in {noun.colour}" if category == "person" else f"{noun.colour} {words}"


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]
