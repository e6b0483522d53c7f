"""A folder with checkpoints to read and damage."""

import pytest

from lts_jax.state.checkpoints import Checkpoints
from tests.lts_jax.helpers.small_states import RUN, make_iterator, make_state


@pytest.fixture
def saved(tmp_path):
    """Five checkpoints; the second is the best."""
    iterator = make_iterator()
    with Checkpoints(tmp_path) as checkpoints:
        for step, oiou in enumerate([0.1, 0.9, 0.3, 0.2, 0.5], start=1):
            next(iterator)
            checkpoints.save(step, make_state(step), iterator, RUN, ["a"])
            checkpoints.score(step, {"oiou": oiou})
    return tmp_path
