"""The benchmark of reading word vectors, on a small file."""

import json

import numpy as np
import pytest

from benchmarks import glove


@pytest.mark.slow
def test_the_words_are_found_among_the_others(tmp_path, capsys):
    words = np.array(["red", "left", "blue"])
    np.savez(tmp_path / "v.npz", words=words, vectors=np.ones((3, 20), np.float16))
    out = tmp_path / "out.json"
    glove.main(["--vectors", str(tmp_path / "v.npz"), "--lines", "50", "--out", str(out)])
    result = json.loads(out.read_text())
    assert (result["lines"], result["found"], result["odd_lines"]) == (50, 3, {})
    assert 0 < result["memory_after_import_bytes"] <= result["peak_memory_bytes"]
    assert result["file_bytes"] > 50 * 20 * 8 and result["seconds"] > 0
    assert json.loads(capsys.readouterr().out) == result
