"""The network variants that are compared with PyTorch."""

from collections.abc import Collection

import pytest

from tests.lts_jax.helpers.twins import SAME

QUICK = ("lts", "transformer")
"""Variants that are always tested."""


def each_of(names: set[str], quick: Collection[str] = QUICK) -> pytest.MarkDecorator:
    """Parametrizes a test by variant; variants not in `quick` are slow tests."""
    slow = {name: pytest.param(name, marks=pytest.mark.slow) for name in names.difference(quick)}
    return pytest.mark.parametrize("name", [slow.get(name, name) for name in sorted(names)])


# The sizes of Table 6 are one network.
all_variants = each_of(set(SAME.values()))
