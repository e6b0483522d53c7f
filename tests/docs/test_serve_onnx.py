"""The example of a server, run as its docstring says."""

import io
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import pytest
from PIL import Image

from lts_jax.export.bundle import write_folder
from tests.lts_jax.helpers.random_network import make_trained

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("export") / "onnx"
    write_folder(make_trained(["red", "cup"]), "onnx", folder)
    return folder


@pytest.fixture(scope="module")
def address(exported, repo_root):
    code = "import sys; sys.modules['lts_jax'] = sys.modules['jax'] = None; sys.argv.pop(0)\n"
    code += "import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, "docs/serve_onnx.py", str(exported), "0"]
    with subprocess.Popen(command, cwd=repo_root, stdout=subprocess.PIPE, text=True) as process:
        yield process.stdout.readline().strip()
        process.terminate()


def post(address, body, **query):
    url = f"{address}/?{urllib.parse.urlencode(query)}"
    with urllib.request.urlopen(url, body, timeout=60) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        with Image.open(io.BytesIO(answer.read())) as mask:
            return np.array(mask)


def test_masks_are_those_of_the_loader(exported, address, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "png")
    monkeypatch.syspath_prepend(str(exported))
    for name in ("loader", "pixels", "tokens"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from loader import load

    segment, masks = load(exported), []
    for text in ("red cup", "cup of tea"):
        masks.append(post(address, file.getvalue(), text=text))
        np.testing.assert_array_equal(masks[-1], 255 * (segment(pixels, text) > 0.25))
    assert 0 < masks[0].mean() < 255 and (masks[0] != masks[1]).any()


@pytest.mark.parametrize(
    ("body", "query", "said"),
    [
        (b"no picture", {"text": "cup"}, "cannot identify image file"),
        (b"no picture", {}, "say what to find"),
        (b"", {"text": "cup"}, "send a picture of at most"),
    ],
)
def test_bad_requests_are_answered(address, body, query, said):
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(address, body, **query)
    assert refused.value.code == 400 and said in refused.value.read().decode()
