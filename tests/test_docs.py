"""What the documents show is run as it stands there."""

import json
import re
import sys

import jax
import jax.numpy as jnp
import pytest
from flax.traverse_util import flatten_dict

import tfds_refcoco
from lts_jax.configs.default import FIELDS
from lts_jax.models import LTS
from lts_jax.models.darknet53 import Conventions
from tests.lts_jax.helpers.tiny import TINY
from tfds_refcoco.raw.read import read_raw


def _blocks(path, language):
    text = path.read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_snippets_that_read_records(mini_refcoco, repo_root, tmp_path, monkeypatch, capsys):
    tfds_refcoco.build("refcoco_unc", tmp_path / "data", mini_refcoco, progress=False)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    blocks = _blocks(repo_root / "README.md", "python") + _blocks(
        repo_root / "docs/data.md", "python"
    )
    read = [block for block in blocks if "tfds" in block or "pycocotools" in block]
    assert len(read) == 3
    for block in read:
        assert len(block.splitlines()) <= 5
        if "torch" in block:
            pytest.importorskip("torch")
        exec(block, names)
    assert capsys.readouterr().out.count("torch.Size") == 5  # every record of val
    assert names["image"].shape[-1] == 3 and names["mask"] is sys.modules["pycocotools.mask"]


def test_the_schema_of_own_data(repo_root, tmp_path):
    from PIL import Image
    from pycocotools import mask

    (block,) = _blocks(repo_root / "docs/data.md", "json")
    content = json.loads(block)
    size = (640, 480)
    rle = content["images"][0]["objects"][1]["mask"]["rle"]
    assert rle["size"] == [size[1], size[0]]
    box = mask.frPyObjects([[10.0, 10, 50, 10, 50, 50]], size[1], size[0])[0]
    rle["counts"] = box["counts"].decode()
    (tmp_path / "photos").mkdir()
    (tmp_path / "masks").mkdir()
    Image.new("RGB", size).save(tmp_path / "photos/kitchen.jpg")
    Image.new("L", size, 3).save(tmp_path / "masks/kitchen.png")
    (tmp_path / "custom.json").write_text(json.dumps(content))
    (image,) = read_raw(tmp_path, "custom")["train"]
    assert [sentence.targets for sentence in image.sentences] == [(0,), (0, 1), ()]


def test_where_the_paper_is_silent(repo_root):
    """Rows of the README's table against the network."""
    readme = (repo_root / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", readme, re.MULTILINE))
    assert rows["Weight decay"] == "none" and FIELDS["train.weight_decay"].default == 0
    assert rows["BatchNorm"].startswith("epsilon 1e-5; running statistics move by 0.1 of the batch")
    assert (Conventions().epsilon, Conventions().negative_slope) == (1e-5, 0.1)
    assert rows["Biases"].startswith("on the sentence's projection (Eq. 5), the word filter's")
    model = LTS(vocab_size=9, **TINY, locate="word_filter")
    inputs = jnp.zeros((1, 64, 64, 3)), jnp.ones((1, 4), jnp.int32), jnp.ones(1, jnp.int32)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, train=False))
    params = flatten_dict(shapes["params"])
    with_kernel = {path[:-1] for path in params if path[-1] == "kernel"}
    biased = {path[:-1] for path in params if path[-1] == "bias"} & with_kernel
    found = {"/".join(path) for path in biased if path[0] != "text"}
    assert found == {"fusion/text", "locator/round0/regress", "segmenter/mask"}
