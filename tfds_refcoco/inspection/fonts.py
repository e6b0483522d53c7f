"""Fonts that pictures are labelled with: Pillow's own, or one that has the glyphs of a text."""

import logging
from functools import cache
from pathlib import Path

from PIL import ImageFont

logger = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Tried first of a system's fonts: they have many scripts.
_PREFERRED = ("notosanscjk", "sourcehansans", "wqy", "droidsansfallback", "unifont", "notosans")
ADVICE = "install a font that has them, such as Noto Sans CJK, to see them in pictures"


def choose(text: str, size: int) -> tuple[Font, str]:
    r"""Returns a font and what to draw with it.

    Where no font of this machine has all glyphs of the text, those that are missing become code
    points, such as \u4eba, and a warning says so, once for all texts.

    Args:
      text: to be drawn, in one line: blanks and control characters become single blanks.
      size: of the letters, pixels.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    wanted = needed(text)
    if not wanted:
        return ImageFont.load_default(size=size), text
    path = _best(frozenset(wanted))
    if lacking := wanted - _glyphs(path):
        _warn()
        codes = {ord(c): c.encode("ascii", "backslashreplace").decode() for c in lacking}
        text = text.translate(codes)
    return ImageFont.truetype(path, size), text


def missing(text: str) -> set[str]:
    """Returns the characters of a text that no font of this machine has."""
    found = needed(text)
    for path in _fonts() if found else ():
        found = found - _glyphs(path)
        if not found:
            break
    return found


def needed(text: str) -> set[str]:
    """Returns the characters of a text that Pillow's own font may lack."""
    # It has ASCII and few more: no accents.
    return {c for c in set(text) if not c.isascii() and c != "…" and c.isprintable()}


@cache
def _best(wanted: frozenset[str]) -> str:
    """Returns the first font that has all of them, or else the one that has most."""
    best, most = "", -1
    for path in _fonts():
        count = len(wanted & _glyphs(path))
        if count > most:
            best, most = path, count
        if count == len(wanted):
            break
    return best


@cache
def _fonts() -> tuple[str, ...]:
    """Returns the files of fonts: matplotlib's own, and those of the system."""
    # Late: few texts need another font, and it takes a second.
    import matplotlib as mpl
    from matplotlib import font_manager

    own = str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    system = sorted(font_manager.findSystemFonts())

    def rank(path: str) -> int:
        name = Path(path).name.lower().replace("-", "").replace("_", "")
        return next((i for i, part in enumerate(_PREFERRED) if part in name), len(_PREFERRED))

    return own, *sorted(system, key=rank)


@cache
def _glyphs(path: str) -> frozenset[str]:
    """Returns the characters that a font has, none if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except Exception:  # a damaged font of the system; its library raises what it likes
        return frozenset()


@cache
def _warn() -> None:
    logger.warning("no font of this machine has all characters of the sentences; %s", ADVICE)
