"""Heatmap colours are transparent at zero and have evenly increasing lightness."""

import cv2
import matplotlib as mpl
import numpy as np
import pytest

from lts_jax.io import colours
from lts_jax.io.colours import PROBABILITY, Range

IMAGE = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def lightness(rgb):
    """Returns CIELAB's L*, from 0 to 100, of every sixteenth of 256 colours."""
    return cv2.cvtColor((rgb[::15] / 255).astype(np.float32)[None], cv2.COLOR_RGB2LAB)[0, :, 0]


def test_the_colours_are_matplotlibs():
    theirs = 255 * mpl.colormaps["inferno"](np.linspace(0, 1, 256))[:, :3]
    assert np.abs(colours.table()[:, :3] - theirs).max() <= 2


def test_they_get_brighter_in_even_steps():
    """Unlike jet, whose highest values are darker than those in the middle."""
    jet = 255 * mpl.colormaps["jet"](np.linspace(0, 1, 256))[:, :3]
    steps, of_jet = (np.diff(lightness(rgb.astype(float))) for rgb in (colours.table()[:, :3], jet))
    assert steps.min() > 2 and steps.std() < 0.25 * steps.mean()
    assert of_jet.min() < -5


def test_zero_is_the_gray_picture_and_more_is_more_colour():
    levels = np.linspace(0, 1, 9)
    drawn = [colours.overlay(IMAGE, np.full((8, 8), level)) for level in levels]
    gray = cv2.cvtColor(IMAGE, cv2.COLOR_RGB2GRAY)
    np.testing.assert_allclose(drawn[0], (colours.GRAY * gray)[..., None].repeat(3, 2), atol=1)
    away = [np.abs(d.astype(int) - drawn[0]).mean() for d in drawn]
    assert (np.diff(away[:5]) > 0).all()
    spread = [np.ptp(d.astype(int), axis=(0, 1)).max() for d in drawn]
    assert spread[-1] < 0.2 * spread[0]  # the image is hardly visible where the map is high
    np.testing.assert_array_equal(colours.overlay(IMAGE, np.full((8, 8), 7.0)), drawn[-1])
    np.testing.assert_array_equal(colours.overlay(IMAGE, np.full((8, 8), -7.0)), drawn[0])


def test_one_range_means_one_colour():
    of = Range("times the mean", 1, 5)
    a, b = np.full((8, 8), 2.0), np.full((8, 8), 4.0)
    assert (colours.overlay(IMAGE, a, of) != colours.overlay(IMAGE, b, of)).any()
    np.testing.assert_array_equal(colours.overlay(IMAGE, a, of), colours.overlay(IMAGE, a / 8))


@pytest.mark.parametrize("value", [0.0, 1e-4])
def test_signs_have_colours_of_their_own(value):
    of = Range("added", -3, 3, signed=True)
    plain = colours.overlay(IMAGE, np.full((8, 8), value), of)
    assert np.ptp(plain.astype(int), axis=-1).max() <= 1  # gray
    below, above = (colours.overlay(IMAGE, np.full((8, 8), v), of).mean((0, 1)) for v in (-3, 3))
    assert below[2] - below[0] > 50 and above[0] - above[2] > 30  # blue, red
    blank = Range("nothing", 0, 0, signed=True)
    assert np.isfinite(colours.overlay(IMAGE, np.zeros((8, 8)), blank)).all()


def test_a_bar_has_the_colours_of_the_range():
    bar = colours.bar(PROBABILITY, 80, 10)
    assert bar.shape == (10, 80, 3)
    ground = np.full((1, 80, 3), 150, np.uint8)
    expected = colours.overlay(ground, np.linspace(0, 1, 80)[None])
    np.testing.assert_array_equal(bar, expected.repeat(10, axis=0))
