"""Charts with names that contain math text, foreign scripts or many characters."""

import warnings

import pytest

from lts_jax.reporting import charts

GROUP = {"sentences": 3, "miou": 0.5, "intervals": {"miou": [0.4, 0.6]}}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("US$ 5", "US$ 5 (3)"),
        (r"$\frac{$ note", r"$\frac{$ note (3)"),
        ("$x$ $y$", "$x$ $y$ (3)"),
        ("红杯", "红杯 (3)"),
        ("a\nb", "a b (3)"),
        ("x" * 10_000, "x" * 29 + "… (3)"),
    ],
)
def test_names_of_groups(name, shown):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        svg = charts.intervals([name], {"val": {name: GROUP}}, "miou")
    assert f">{shown}</text>" in svg
