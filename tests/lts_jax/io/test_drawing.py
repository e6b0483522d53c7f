import time

import numpy as np
import pytest

from lts_jax.io import colours, drawing
from lts_jax.io.colours import Range


def example(h, w, rounds=1):
    rng = np.random.default_rng(0)
    mask = np.zeros((h, w), bool)
    mask[h // 4 : h // 2 + 1, w // 4 : w // 2 + 1] = True
    return drawing.Example(
        image=rng.integers(0, 256, (h, w, 3), dtype=np.uint8),
        sentence="the thing",
        iou=0.5,
        heatmaps={f"round {i}": rng.random((h, w)).astype(np.float32) for i in range(rounds)},
        prediction=mask,
        truth=mask,
    )


def test_gallery_holds_images_of_any_shape():
    for sizes in ([(1, 50)], [(640, 427), (427, 640), (30, 20)]):
        sheet = drawing.draw_gallery([example(*size) for size in sizes])
        pixels = np.asarray(sheet)
        assert sheet.width > 4 * drawing.PANEL and sheet.height > drawing.PANEL
        assert (pixels != 255).any()


def test_each_round_has_a_panel():
    panel = drawing.PANEL + drawing.MARGIN
    widths = [drawing.draw_gallery([example(30, 40, rounds)]).width for rounds in range(4)]
    assert np.diff(widths).tolist() == [panel] * 3
    first = np.asarray(drawing.draw_gallery([example(30, 40, 1)]))
    second = np.asarray(drawing.draw_gallery([example(30, 40, 2)]))
    below = slice(drawing.CAPTION + drawing.TITLE, None)
    left, right = slice(2 * panel), slice(2 * panel, None)
    np.testing.assert_array_equal(second[below, left], first[below, left])
    np.testing.assert_array_equal(second[below, 3 * panel :], first[below, right])


def test_maps_are_drawn_next_to_image_and_heatmaps():
    shown = example(30, 40)
    of = Range("added", -1, 1, signed=True)
    maps = {f"word {i}": (np.full((30, 40), v, np.float32), of) for i, v in enumerate((-1, 1))}
    # Sentences may have different numbers of maps.
    sheet = np.asarray(drawing.draw_maps([shown, shown], [maps, {}]))
    panel = drawing.PANEL + drawing.MARGIN
    assert sheet.shape[1] == (2 + 2) * panel + 2 * drawing.MARGIN
    below = slice(drawing.CAPTION + drawing.TITLE + 40, drawing.CAPTION + drawing.TITLE + 80)
    low, high = (
        sheet[below, drawing.MARGIN + i * panel : drawing.MARGIN + i * panel + 100].mean((0, 1))
        for i in (2, 3)
    )
    assert low[2] - low[0] > 50 and high[0] - high[2] > 30  # blue, red
    caption = sheet[: drawing.CAPTION, 2 * panel :].astype(int)
    assert (np.ptp(caption, axis=-1) > 100).sum() > 200  # two colour bars
    height = drawing.CAPTION + drawing.TITLE + drawing.PANEL + drawing.MARGIN
    second = sheet[height : height + drawing.CAPTION, 2 * panel :].astype(int)
    assert 100 < (np.ptp(second, axis=-1) > 100).sum() < (np.ptp(caption, axis=-1) > 100).sum()


def test_long_sentences_stay_in_their_column():
    shown = example(30, 30)
    long = drawing.draw_gallery([shown._replace(sentence="the man on the left " * 20), shown])
    short = drawing.draw_gallery([shown._replace(sentence=""), shown])
    half = long.width // 2
    np.testing.assert_array_equal(np.asarray(long)[:, half:], np.asarray(short)[:, half:])


@pytest.mark.parametrize("letters", ["ab ", "a", "杯", "a\n", "e\u0301"])
def test_drawing_takes_as_long_as_a_picture_is_wide(letters):
    """300,000 letters are shortened to fit as quickly as 300."""
    start = time.monotonic()
    shown, font = drawing._fit(letters * 100_000, "   (IoU 0.50)", 15, 800)
    assert time.monotonic() - start < 3
    assert shown.endswith("…   (IoU 0.50)")
    assert 700 < font.getlength(shown) <= 800
    assert drawing._fit("the thing", " (IoU 1.00)", 15, 800)[0] == "the thing (IoU 1.00)"
    drawing.draw_gallery([example(30, 40)._replace(sentence=letters * 100_000)])


def test_a_mask_is_kept_and_the_rest_faded():
    shown = example(40, 60)
    out = drawing.overlay_mask(shown.image, shown.truth, (1, 2, 3))
    assert out.shape == shown.image.shape and out.dtype == np.uint8
    np.testing.assert_array_equal(out[15, 25], shown.image[15, 25])  # inside
    assert out[0, 0].min() >= 165  # outside: at most 35 % of the image is left
    assert (out == (1, 2, 3)).all(axis=-1).any()  # the outline


@pytest.mark.parametrize("ground", [0, 255, 128, drawing.PREDICTION, drawing.TRUTH])
@pytest.mark.parametrize("colour", [drawing.PREDICTION, drawing.TRUTH])
def test_an_outline_shows_on_any_ground(ground, colour):
    image = np.zeros((60, 80, 3), np.uint8) + np.uint8(ground)
    mask = np.zeros((60, 80), bool)
    mask[20:40, 20:50] = True
    mask[28:32, 30:40] = False  # a hole
    out = drawing.overlay_mask(image, mask, colour).astype(int)
    line, rim = (out == colour).all(-1), (out == 0).all(-1)
    for where in (out[:, 35], out[30, :]):  # across the outline, and across that of the hole
        assert np.abs(np.diff(where, axis=0)).max() > 100
    if ground != colour:
        assert line[18:22].any() and line[26:34, 28:42].any()
    if ground:
        assert rim[16:24].any() and rim[26:34, 26:44].any()


def test_a_heatmap_has_its_colours_explained():
    heatmap = np.linspace(0, 1, 240)[None].repeat(50, axis=0)
    image = np.full((50, 240, 3), 200, np.uint8)
    sheet = np.asarray(drawing.draw_heatmap(image, heatmap))
    assert sheet.shape == (50 + drawing.CAPTION, 240, 3)
    np.testing.assert_array_equal(sheet[:50], colours.overlay(image, heatmap))
    assert (np.ptp(sheet[50:].astype(int), axis=-1) > 100).any()  # the bar
    drawing.draw_heatmap(image[:, :9], heatmap[:, :9])  # too narrow for the bar
