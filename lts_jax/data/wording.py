"""Adapts sentences to mirrored images, and detects sentences that a crop may make false.

Both functions are rule-based and support English only. When in doubt they reject the sentence, and
the image is left unchanged: training on a false sentence teaches the network wrong associations.
"""

import re
from collections.abc import Sequence


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that contain "left" or "right" but do not denote a side, by a distinctive part.
_NO_SIDE = re.compile(r"bright|upright|fright|wright|copyright|outright|forthright|cleft|leftover")
_SHORT = {"l": "r", "r": "l", "lt": "rt", "rt": "lt", "lft": "rgt", "rgt": "lft"}
_SHORT |= {"lh": "rh", "rh": "lh", "lhs": "rhs", "rhs": "lhs"}
_SWAPPED = {"left": "right", "right": "left"}
# Words that differ from "left" or "right" in one letter but are not typos.
_LIKE_A_SIDE = _set(
    "light fight tight sight night might eight bight wight lift loft let deft heft lent"
)
# Words for things that differ from their mirror images in more than left and right (readable text,
# clocks, cars, maps), and words for sides that are not translated.
_UNTRANSLATED = _set(
    "number numbers numeral digit digits letter letters word words text written writing reads says "
    "saying spells spelled spelling labeled labelled titled named initials oclock clockwise "
    "counterclockwise anticlockwise noon ten eleven twelve thirteen east west eastern northeast "
    "northwest southeast southwest starboard alright tl tr bl br ul ur ll lr izquierda derecha "
    "izquierdo derecho gauche droite sinistra destra esquerda direita links rechts"
)
_OF_A_CAR = re.compile(r"\b(?:drivers?|passengers?) (?:side|seat|door|window|front|rear)")
# "right next to", "right there": not a side, unless preceded by "on the" or similar words.
_ADVERB = re.compile(
    r"(?<!\bon )(?<!\bon the )(?<!\bon far )(?<!\bat )(?<!\bto the )(?<!\bfar )(?<!\bupper )"
    r"(?<!\blower )(?<!\btop )(?<!\bbottom )\bright "
    r"(?:next|by|beside|behind|in|at|under|underneath|beneath|above|below|over|on|up|down|near|"
    r"against|along|between|before|after|around|across|inside|outside|into|out|off|away|through|"
    r"where|there|here|now|way|angle|angles|angled|side up)\b"
)
_IDIOM = re.compile(r"\ball right\b|\bleft (?:over|alone|out)\b|\b[lr] (?:shape|shaped|us)\b")
_RANK = re.compile(
    r"\b(?:first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|last|\d+(?:st|nd|rd|th))\b"
)
# Without "from …", people count from the left.
_COUNTED_FROM = re.compile(
    r"\bfrom (?:the )?(?:far |very |extreme )?(?:left|right|top|bottom|front|back|rear)\b"
)
_COUNT = re.compile(r"\b\d+ (?=from )|\b\d+(?:st|nd|rd|th)\b")

# A crop changes where an object is, which other objects are visible, and how much of it is visible.
_CROP_SENSITIVE = _set(
    # positions
    "top upper uppermost topmost high higher bottom bottommost lower lowermost low middle mid "
    "center centre central centered centred corner corners side sides edge edges end ends far "
    "farther further near nearer close closer front back background foreground rear row rows "
    "column line north south up down upside "
    # other objects
    "above below under over beneath underneath beside besides behind between among amongst next by "
    "with without at on onto to from against along across around through toward towards inside "
    "into out off outside opposite away near facing looking watching pointing touching holding "
    "carrying riding pulling pushing hugging kissing feeding eating using hitting throwing "
    "surrounded together separate separated alone single group both all each every other others "
    "another else same rest remaining "
    "not no isnt arent doesnt nt except that which who whos whose where "
    # numbers
    "two three four five six seven eight nine ten eleven twelve pair couple few several many half "
    # sizes and comparisons
    "big small large little tall short tiny huge giant massive mini medium long most more less "
    "least than bigger smaller larger littler taller shorter longer wider narrower thinner thicker "
    "fatter slimmer skinnier darker lighter brighter paler older younger fuller emptier rounder "
    "better worse best worst main "
    # visibility
    "part parts partial partially cropped cut cutoff visible whole entire entirely full fully seen "
    "see hidden can cant only picture pic photo image frame screen scene shot camera viewer us "
    "you we me my your our portion piece "
    # non-English words for some of these
    "links rechts oben unten gauche droite haut bas izquierda derecha arriba abajo"
)
_MEANT = _set(  # words that are often misspelled
    "bottom middle center corner front behind background foreground second third closest biggest "
    "largest smallest tallest beside"
)
_EST = _set("vest chest guest forest nest crest pest test quest request arrest interest harvest")


def mirror(words: Sequence[str]) -> list[str] | None:
    """Converts a sentence that is true of an image to one that is true of its mirror image.

    Swaps left and right, including parts of words ("leftmost", "bottomright") and abbreviations
    ("l", "rhs").

    Args:
      words: words of the sentence, as returned by `tfds_refcoco.records.text.tokenize`.

    Returns:
      The converted words, or None if the conversion is uncertain: numbers and text in the image,
      clocks, counts without a direction ("second bus"), "right next to", misspelled sides, and
      non-ASCII text.
    """
    text = " ".join(words)
    if not text.isascii() or re.search(r"\d", _COUNT.sub(" ", text)):
        return None
    if _ADVERB.search(text) or _IDIOM.search(text) or _OF_A_CAR.search(text):
        return None
    if _RANK.search(text) and not _COUNTED_FROM.search(text):
        return None
    if any(word in _UNTRANSLATED or _misspelled_side(word) for word in words):
        return None
    return [_mirror_word(word) for word in words]


def survives_crop(words: Sequence[str]) -> bool:
    """Returns whether a sentence about an object stays true in every crop that contains the object.

    This holds if the sentence describes only the object's appearance, without position, order, size
    or comparison, other objects, or the image itself.

    Args:
      words: words of the sentence, as for `mirror`.
    """
    text = " ".join(words)
    if not words or not text.isascii() or re.search(r"\d", text) or _RANK.search(text):
        return False
    return not any(
        word in _CROP_SENSITIVE
        or _mirror_word(word) != word
        or _misspelled_side(word)
        or (word.endswith("est") and word not in _EST)
        or any(_one_slip(word, place) for place in _MEANT)
        for word in words
    )


def _mirror_word(word: str) -> str:
    if word in _SHORT:
        return _SHORT[word]
    if _NO_SIDE.search(word):
        return word
    return re.sub("left|right", lambda match: _SWAPPED[match[0]], word)


def _misspelled_side(word: str) -> bool:
    if word in _LIKE_A_SIDE or word in _SHORT or "left" in word or "right" in word:
        return False
    return any(_one_slip(word, side) for side in ("left", "right", "leftmost", "rightmost"))


def _one_slip(word: str, meant: str) -> bool:
    """Whether `word` is one edit from `meant`: delete, insert, replace or swap adjacent letters."""
    if abs(len(word) - len(meant)) > 1 or word == meant:
        return False
    start = 0
    while start < min(len(word), len(meant)) and word[start] == meant[start]:
        start += 1
    rest, other = word[start:], meant[start:]
    return (
        rest[1:] == other[1:]
        or rest[1:] == other
        or rest == other[1:]
        or (rest[:2] == other[:2][::-1] and rest[2:] == other[2:])
    )
