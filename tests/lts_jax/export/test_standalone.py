"""The loader of an export splits sentences into the same words as training."""

import importlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lts_jax.export import standalone
from tfds_refcoco.records.text import APART, CLEANED, tokenize

# The fields of preprocessing.json.
SPEC = json.loads(json.dumps({"replace": CLEANED, "normalize": "NFKC", "apart": APART}))


@pytest.fixture(scope="module")
def loader():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(standalone.__file__).parent))
        yield importlib.import_module("tokens")


@settings(max_examples=300, deadline=None)
@given(st.text() | st.text("aZ’“–- ＡΣİ左边ของのガｶﾞ\u0301\u0e34.", max_size=12))  # noqa: RUF001
def test_words(loader, sentence):
    assert loader.words_of(sentence, SPEC) == tokenize(sentence)
