"""Random words in the sentences of a training step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lts_jax.config.validation import check_config
from lts_jax.errors import ConfigError
from lts_jax.steps.training import insert_word

TOKENS = jnp.asarray(np.array([[5, 6, 7, 0, 0, 0], [5, 0, 0, 0, 0, 0], [5, 6, 7, 8, 9, 5]] * 100))
LENGTH = jnp.asarray(np.array([3, 1, 6] * 100, np.int32))


def test_a_word_is_inserted_anywhere_and_the_others_stay_in_order():
    tokens, length = map(np.asarray, insert_word(TOKENS, LENGTH, 50, jax.random.key(0)))
    assert tokens.shape == TOKENS.shape and tokens.dtype == TOKENS.dtype
    places, added, words = set(), 0, set()
    for before, n, after, m in zip(np.asarray(TOKENS), LENGTH, tokens, length, strict=True):
        assert m in (n, min(n + 1, 6)) and not after[m:].any()
        old, new = before[:n].tolist(), after[:m].tolist()
        if old == new:
            continue
        added += 1
        positions = [i for i in range(m) if (new[:i] + new[i + 1 :]) == old[: m - 1]]
        assert positions, (old, new)
        places.add((int(n), positions[0]))
        words.add(new[positions[0]])
    assert 110 < added < 190
    assert {(3, i) for i in range(4)} | {(1, 0), (1, 1)} <= places
    assert min(words) >= 2 and max(words) < 50 and len(words) > 30


def test_it_is_the_keys():
    one, again, other = (
        np.asarray(insert_word(TOKENS, LENGTH, 50, jax.random.key(k))[0]) for k in (0, 0, 1)
    )
    assert (one == again).all() and (one != other).any()


def test_it_is_not_for_word_pieces(tiny_config_factory):
    config = tiny_config_factory()
    config.train.noise_words = 1
    check_config(config)
    config.model.text = "bert"
    with pytest.raises(ConfigError, match=r"train\.noise_words=1 requires model\.text=gru"):
        check_config(config)
