"""Checks the documentation: snippets run, and numbers match the committed results."""

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
    read = _blocks(repo_root / "docs/data.md", "python")
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


def test_decisions_that_the_paper_does_not_specify(repo_root):
    """Compares rows of the table of decisions with the network."""
    text = (repo_root / "docs/paper.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|", text, re.MULTILINE))
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
    result = {"/".join(path) for path in biased if path[0] != "text"}
    assert result == {"fusion/text", "locator/round0/regress", "segmenter/mask"}


def _shown(value):
    return f"{100 * value:.2f}"


def test_scores_of_shapes(repo_root):
    """The results at both thresholds, and oIoU in the README, equal the committed files."""
    columns = ("oiou", "miou", "prec@0.5", "prec@0.7", "prec@0.9", "pointing")
    folder = repo_root / "docs" / "results"
    readme = (repo_root / "README.md").read_text(encoding="utf-8")
    text = (folder / "README.md").read_text(encoding="utf-8")
    oiou: dict[str, list[str]] = {"0.25": [], "best": []}
    best = {}
    for split in ("val", "testA", "testB"):
        metrics = json.loads((folder / "shapes" / split / "metrics.json").read_text())
        other = metrics["other"]
        assert (metrics["threshold"], other["chosen_on"]) == (0.25, "val")
        best[split] = other["oiou"] - metrics["oiou"]
        for part, at in ((metrics, "0.25"), (other, f"{other['threshold']:g}, best on val")):
            row = " | ".join(["`shapes`", split, at, *(_shown(part[name]) for name in columns)])
            assert f"| {row} |" in text, row
            oiou["best" if part is other else "0.25"].append(_shown(part["oiou"]))
        hidden = json.loads((folder / "shapes_hidden" / split / "metrics.json").read_text())
        cells = " | ".join(_shown(hidden[name]) for name in columns)
        assert f"| `shapes`, sentences hidden | {split} | 0.25 | {cells} |" in text
    for name, values in (("threshold 0.25", "0.25"), ("best threshold on val", "best")):
        row = f"| `configs/shapes.py`, {name} | generated scenes | {' / '.join(oiou[values])} |"
        assert row in readme
    assert best["testA"] > 0.03
    curve = json.loads((folder / "shapes/val/analysis.json").read_text())["threshold_curve"]
    assert curve["threshold"][curve["oiou"].index(max(curve["oiou"]))] == 0.4


def test_kinds_and_failures_of_shapes(repo_root):
    folder = repo_root / "docs" / "results"
    text = (folder / "README.md").read_text(encoding="utf-8")
    rows: dict[str, list[str]] = {}
    for split in ("val", "testA", "testB"):
        analysis = json.loads((folder / "shapes" / split / "analysis.json").read_text())
        parts = [analysis, analysis["other"]]
        for both in zip(*(part["breakdowns"]["kind"] for part in parts), strict=True):
            values = " / ".join(f"{100 * group['miou']:.1f}" for group in both)
            rows.setdefault(both[0]["group"], []).extend([str(both[0]["sentences"]), values])
        for part, at in zip(parts, ("0.25", "0.4, best on val"), strict=True):
            counts = part["failures"]
            total = sum(group["sentences"] for group in part["breakdowns"]["length"])
            cells = [f"{sum(counts.values())} of {total}"]
            cells += [str(n) for kind, n in counts.items() if kind != "no target"]
            assert f"| {split} | {at} | {' | '.join(cells)} |" in text
    assert all(f"| {kind} | {' | '.join(cells)} |" in text for kind, cells in rows.items())


def test_links_are_valid(repo_root):
    """Links on all pages lead to existing files and headings."""

    def anchors(path):
        headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
        plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
        return {heading.strip().replace(" ", "-") for heading in plain}

    pages = [*repo_root.glob("*.md"), *(repo_root / "docs").glob("*.md")]
    for path in [*pages, repo_root / "docs/results/README.md"]:
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
            file, _, anchor = link.partition("#")
            if "://" in file:
                continue
            target = (path.parent / file).resolve() if file else path
            assert target.exists(), f"{path.name}: {link}"
            if anchor:
                assert anchor in anchors(target), f"{path.name}: {link}"
