"""Selection of fonts for sentences in any script, by their glyphs."""

import json
import time

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from tfds_refcoco.__main__ import main
from tfds_refcoco.inspection import fonts, show


@pytest.fixture
def only(tmp_path, monkeypatch):
    """Makes a font with some characters the only one besides matplotlib's."""
    own = fonts._fonts()[0]

    def make(characters):
        names = [".notdef", *(f"g{i}" for i in range(len(characters)))]
        pen = TTGlyphPen(None)
        for x, y in ((0, 0), (800, 0), (800, 800), (0, 800)):
            (pen.moveTo if (x, y) == (0, 0) else pen.lineTo)((x, y))
        pen.closePath()
        box = pen.glyph()
        builder = FontBuilder(1000, isTTF=True)
        builder.setupGlyphOrder(names)
        builder.setupCharacterMap({ord(c): f"g{i}" for i, c in enumerate(characters)})
        builder.setupGlyf(dict.fromkeys(names, box))
        builder.setupHorizontalMetrics(dict.fromkeys(names, (900, 0)))
        builder.setupHorizontalHeader(ascent=800, descent=-200)
        builder.setupNameTable({"familyName": "Test"})
        builder.setupOS2()
        builder.setupPost()
        path = str(tmp_path / "test.ttf")
        builder.save(path)
        monkeypatch.setattr(fonts, "_fonts", lambda: (own, path))
        for cached in (fonts._best, fonts._warn):
            cached.cache_clear()
        return own, path

    yield make
    fonts._best.cache_clear()


def test_a_font_with_the_glyphs_is_chosen(only, caplog):
    own, path = only("左边红杯 e")
    assert fonts.choose("left", 15)[0].path != own  # Pillow's default font
    font, text = fonts.choose("左边 红杯", 15)
    assert (font.path, text) == (path, "左边 红杯")
    font, text = fonts.choose("женщина слева", 15)
    assert (font.path, text) == (own, "женщина слева")
    assert fonts.missing("左边 женщина") == set() and not caplog.records
    # If no font has both scripts, missing characters are drawn as code points.
    font, text = fonts.choose("ж 左边", 15)
    assert (font.path, text) == (path, "\\u0436 左边")


@pytest.mark.parametrize("text", ["café à gauche", "größer", "3 × 4", "a \N{EN DASH} b", "señor"])
def test_accents_and_signs_have_glyphs(text):
    """Pillow's default font has little more than ASCII."""
    font, shown = fonts.choose(text, 15)
    drawn = {c: bytes(font.getmask(c)) for c in set(shown)}
    box = bytes(font.getmask("\ue000"))  # private use area: no font has a glyph
    assert shown == text and box not in [drawn[c] for c in text if not c.isascii()]


def test_missing_glyphs_are_reported_once(only, caplog, monkeypatch):
    monkeypatch.setattr(fonts.logger, "propagate", True)
    only("x")
    for _ in range(2):
        assert fonts.choose("左 a", 15)[1] == "\\u5de6 a"
    assert sum("No installed font" in r.getMessage() for r in caplog.records) == 1
    assert fonts.missing("左 a") == {"左"}


def test_missing_glyphs_are_reported_by_a_build(only, tmp_path, capsys):
    only("x")
    Image.new("RGB", (20, 20)).save(tmp_path / "a.png")
    sentences = [{"text": "左边的杯子", "objects": []}]
    row = {"file": "a.png", "split": "val", "objects": [], "sentences": sentences}
    (tmp_path / "custom.json").write_text(json.dumps({"images": [row]}))
    command = ["build", "--dataset", "custom", "--raw", str(tmp_path)]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    assert "no installed font has 5 characters, such as" in capsys.readouterr().out


def test_line_breaks_and_control_characters_become_spaces():
    assert fonts.choose("a\nb\x1b[31m\tc", 15)[1] == "a b [31m c"


LONG = {"words": "ab " * 100_000, "one": "a" * 300_000, "杯": "杯" * 300_000, "\n": "\n" * 300_000}


@pytest.mark.parametrize("text", LONG.values(), ids=LONG)
def test_long_sentences_are_truncated_before_wrapping(text):
    start = time.monotonic()
    lines = show._wrap((0, 0, 0), text, 624)
    assert time.monotonic() - start < 3
    assert len(lines) <= show._LINES_EACH
    widths = [font.getlength(line) for _, line, font in lines]
    assert max(widths, default=0) <= 640
