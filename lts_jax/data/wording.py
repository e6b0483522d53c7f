"""What a change of the picture does to a sentence about it: its mirror image, and its crops.

Both know English alone, and go by words. Where they have a doubt they say so, and the picture is
left as it is: a training sentence that is false teaches something false.
"""

import re
from collections.abc import Sequence


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words that have "left" or "right" in them and mean no side, by a part that tells them.
_NO_SIDE = re.compile(r"bright|upright|fright|wright|copyright|outright|forthright|cleft|leftover")
_SHORT = {"l": "r", "r": "l", "lt": "rt", "rt": "lt", "lft": "rgt", "rgt": "lft"}
_SHORT |= {"lh": "rh", "rh": "lh", "lhs": "rhs", "rhs": "lhs"}
_SWAPPED = {"left": "right", "right": "left"}
# One letter from "left" or "right", and no slip of the pen.
_LIKE_A_SIDE = _set(
    "light fight tight sight night might eight bight wight lift loft let deft heft lent"
)
# Where pictures differ from their mirror images in more than left and right: what can be read,
# clocks, cars, maps, and words for a side that are not translated.
_UNTRANSLATED = _set(
    "number numbers numeral digit digits letter letters word words text written writing reads says "
    "saying spells spelled spelling labeled labelled titled named initials oclock clockwise "
    "counterclockwise anticlockwise noon ten eleven twelve thirteen east west eastern northeast "
    "northwest southeast southwest starboard alright tl tr bl br ul ur ll lr izquierda derecha "
    "izquierdo derecho gauche droite sinistra destra esquerda direita links rechts"
)
_OF_A_CAR = re.compile(r"\b(?:drivers?|passengers?) (?:side|seat|door|window|front|rear)")
# "right next to", "right there": no side, unless "on the" or the like stands before it.
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
# People count from the left where they do not say from where.
_COUNTED_FROM = re.compile(
    r"\bfrom (?:the )?(?:far |very |extreme )?(?:left|right|top|bottom|front|back|rear)\b"
)
_COUNT = re.compile(r"\b\d+ (?=from )|\b\d+(?:st|nd|rd|th)\b")

# A crop changes where a thing is, which other things there are, and what of them is to be seen.
_OF_THE_WHOLE = _set(
    # places
    "top upper uppermost topmost high higher bottom bottommost lower lowermost low middle mid "
    "center centre central centered centred corner corners side sides edge edges end ends far "
    "farther further near nearer close closer front back background foreground rear row rows "
    "column line north south up down upside "
    # other things
    "above below under over beneath underneath beside besides behind between among amongst next by "
    "with without at on onto to from against along across around through toward towards inside "
    "into out off outside opposite away near facing looking watching pointing touching holding "
    "carrying riding pulling pushing hugging kissing feeding eating using hitting throwing "
    "surrounded together separate separated alone single group both all each every other others "
    "another else same rest remaining "
    "not no isnt arent doesnt nt except that which who whos whose where "
    # numbers
    "two three four five six seven eight nine ten eleven twelve pair couple few several many half "
    # sizes, and what is more or less
    "big small large little tall short tiny huge giant massive mini medium long most more less "
    "least than bigger smaller larger littler taller shorter longer wider narrower thinner thicker "
    "fatter slimmer skinnier darker lighter brighter paler older younger fuller emptier rounder "
    "better worse best worst main "
    # what is to be seen of it
    "part parts partial partially cropped cut cutoff visible whole entire entirely full fully seen "
    "see hidden can cant only picture pic photo image frame screen scene shot camera viewer us "
    "you we me my your our portion piece "
    # words for some of these that are not English
    "links rechts oben unten gauche droite haut bas izquierda derecha arriba abajo"
)
_MEANT = _set(  # may be misspelled
    "bottom middle center corner front behind background foreground second third closest biggest "
    "largest smallest tallest beside"
)
_EST = _set("vest chest guest forest nest crest pest test quest request arrest interest harvest")


def mirror(words: Sequence[str]) -> list[str] | None:
    """Returns what is true of the mirror image if the sentence is true of the picture.

    Left and right are exchanged, also as parts of words ("leftmost", "bottomright") and
    abbreviated ("l", "rhs").

    Args:
      words: of the sentence, as `tfds_refcoco.records.text.tokenize` returns them.

    Returns:
      The words; None where that cannot be told: numbers and texts that stand in the picture,
      clocks, counts that do not say from where ("second bus"), "right next to", misspelled sides,
      and what is not ASCII.
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
    """Whether a sentence that is true of one object stays so in every crop that shows it whole.

    It does if it says nothing but how the object looks: no place, order, size or comparison, no
    other object, and nothing about the picture.

    Args:
      words: of the sentence, as for `mirror`.
    """
    text = " ".join(words)
    if not words or not text.isascii() or re.search(r"\d", text) or _RANK.search(text):
        return False
    return not any(
        word in _OF_THE_WHOLE
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
    return re.sub("left|right", lambda found: _SWAPPED[found[0]], word)


def _misspelled_side(word: str) -> bool:
    if word in _LIKE_A_SIDE or word in _SHORT or "left" in word or "right" in word:
        return False
    return any(_one_slip(word, side) for side in ("left", "right", "leftmost", "rightmost"))


def _one_slip(word: str, meant: str) -> bool:
    """Whether a letter of `meant` is missing, added, another, or has changed with the next one."""
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
