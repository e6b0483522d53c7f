"""Fonts for labels in pictures: Pillow's default, or an installed font with the needed glyphs."""

import logging
from functools import cache
from pathlib import Path

from PIL import ImageFont

logger = logging.getLogger(__name__)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Tried first among the system's fonts, because they cover many scripts.
_PREFERRED = ("notosanscjk", "sourcehansans", "wqy", "droidsansfallback", "unifont", "notosans")
ADVICE = "install a font such as Noto Sans CJK to display them in pictures"


def choose(text: str, size: int) -> tuple[Font, str]:
    r"""Returns a font and the text to draw with it.

    If no installed font has all glyphs, missing characters are replaced by code points such as
    \u4eba, and a warning is logged once.

    Args:
      text: text to draw on one line; whitespace and control characters become single spaces.
      size: font size in pixels.
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
    """Returns the characters of a text that no installed font has."""
    characters = needed(text)
    for path in _fonts() if characters else ():
        characters = characters - _glyphs(path)
        if not characters:
            break
    return characters


def needed(text: str) -> set[str]:
    """Returns the characters of a text that Pillow's default font may lack."""
    # It has little more than ASCII, for example no accents.
    return {c for c in set(text) if not c.isascii() and c != "…" and c.isprintable()}


@cache
def _best(wanted: frozenset[str]) -> str:
    """Returns the first font with all of the characters, or the one with the most."""
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
    """Returns the font files of matplotlib and of the system."""
    # Imported here: it takes a second, and few texts need another font.
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
    """Returns the characters of a font; empty if it cannot be read."""
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except Exception:  # a damaged font; FreeType raises any type
        return frozenset()


@cache
def _warn() -> None:
    logger.warning("No installed font has all characters of the sentences; %s", ADVICE)
