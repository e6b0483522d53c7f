"""The scorer on files written by pycocotools and Pillow."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from lts_jax.evaluation import metrics, results
from lts_jax.evaluation.external import Predictions, score
from tfds_refcoco import DataError


@pytest.fixture(scope="module")
def split(shapes_data):
    return shapes_data.split("testB")


@pytest.fixture(scope="module")
def made(split):
    """Random masks, and their intersections and unions with the truth by pycocotools."""
    rng, index = np.random.default_rng(0), split.index
    masks, both, either = {}, [], []
    for row, sent_id in enumerate(index.sent_id.tolist()):
        h, w = int(index.height[row]), int(index.width[row])
        mask = rng.random((h, w)) < rng.random()
        record = split.record(int(index.record[row]))
        targets = record["targets"]
        (target,) = targets["object"][targets["sentence"] == index.sentence[row]]
        truth = {"size": [h, w], "counts": record["objects"]["mask"][target]}
        ours = coco.encode(np.asfortranarray(mask, np.uint8))
        both.append(int(coco.area(coco.merge([ours, truth], intersect=True))))
        either.append(int(coco.area(coco.merge([ours, truth]))))
        masks[sent_id] = mask
    return masks, np.array(both), np.array(either)


def rle(mask, compressed=True):
    if compressed:
        result = coco.encode(np.asfortranarray(mask, np.uint8))
        return {"size": result["size"], "counts": result["counts"].decode()}
    flat = mask.T.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=False))
    runs = np.diff([0, *starts, len(flat)]).tolist()
    return {"size": list(mask.shape), "counts": runs}


def write(path, entries):
    path.write_text(json.dumps(entries))
    return path


@pytest.mark.parametrize("kind", ["compressed", "uncompressed", "png"])
def test_equals_pycocotools(split, made, tmp_path, kind):
    masks, both, either = made
    path = tmp_path / "p"
    if kind == "png":
        path.mkdir()
        for i, mask in masks.items():
            Image.fromarray(mask).save(path / f"{i}.png")
    else:
        rles = {i: rle(mask, kind == "compressed") for i, mask in masks.items()}
        write(path, [{"sent_id": i, "segmentation": r} for i, r in reversed(rles.items())])
    result = score(split, Predictions(path))
    np.testing.assert_array_equal(result.intersection, both)
    np.testing.assert_array_equal(result.union, either)
    summary = results.summarize(split, result)
    assert summary["oiou"] == both.sum() / either.sum()
    assert summary["miou"] == np.mean(both / either)
    assert summary["pointing"] is None
    right = []
    for row, mask in enumerate(masks.values()):
        record = split.record(int(split.index.record[row]))
        counts = record["objects"]["mask"]
        targets = record["targets"]
        (target,) = targets["object"][targets["sentence"] == split.index.sentence[row]]
        truth = coco.toBbox({"size": list(mask.shape), "counts": counts[target]})
        right.append(coco.iou([coco.toBbox(rle(mask))], [truth], [0])[0, 0] >= 0.5)
    assert summary["acc@0.5"] == np.mean(right)
    # Scoring the written predictions gives the same results.
    results.write(split, result, tmp_path / "out")
    again = score(split, Predictions(tmp_path / "out" / "predictions.json"))
    assert results.summarize(split, again) == summary


def test_points(split, made, tmp_path):
    masks, *_ = made
    first = next(iter(masks))
    entries = [
        {"sent_id": i, "segmentation": rle(m), "point": [-1, -1] if i == first else [20, 30]}
        for i, m in masks.items()
    ]
    result = score(split, Predictions(write(tmp_path / "p.json", entries)))
    index, hits = split.index, []
    for row in range(len(index.sent_id)):
        record, targets = split.record(int(index.record[row])), None
        targets = record["targets"]["object"][record["targets"]["sentence"] == index.sentence[row]]
        h, w = int(index.height[row]), int(index.width[row])
        truth = coco.decode({"size": [h, w], "counts": record["objects"]["mask"][targets[0]]})
        hits.append(bool(truth[30, 20]) and row > 0)
    assert result.hit.tolist() == hits
    assert results.summarize(split, result)["pointing"] == np.mean(hits)


def change(entries, kind):
    entry = entries[0]
    if kind == "missing":
        return entries[1:]
    if kind == "strange":
        return [*entries, entry | {"sent_id": 10**9}]
    if kind == "twice":
        return [*entries, entry]
    if kind == "size":
        return [entry | {"segmentation": {"size": [3, 3], "counts": [9]}}, *entries[1:]]
    if kind == "length":
        size = entry["segmentation"]["size"]
        return [entry | {"segmentation": {"size": size, "counts": [4]}}, *entries[1:]]
    if kind == "no id":
        return [{"segmentation": entry["segmentation"]}, *entries[1:]]
    if kind == "no mask":
        return [{"sent_id": entry["sent_id"]}, *entries[1:]]
    if kind == "point":
        return [entry | {"point": [1]}, *entries[1:]]
    assert kind == "some points"
    return [entry | {"point": [1, 1]}, *entries[1:]]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "no prediction for 1 of the"),
        ("strange", "1 sent_ids are not in testB"),
        ("twice", "is repeated"),
        ("size", r"got \[3, 3\]"),
        ("length", "the runs cover 4 pixels"),
        ("no id", "sent_id: expected an integer"),
        ("no mask", "segmentation: expected COCO's RLE"),
        ("point", "point: expected"),
        ("some points", "point: only 1 of"),
    ],
)
def test_bad_predictions(split, made, tmp_path, kind, message):
    entries = [{"sent_id": i, "segmentation": rle(m)} for i, m in made[0].items()]
    path = write(tmp_path / "p.json", change(entries, kind))
    with pytest.raises(DataError, match=message):
        score(split, Predictions(path))


def test_a_byte_order_mark(split, made, tmp_path):
    """Some Windows tools write one, and CR LF line ends."""
    entries = [{"sent_id": i, "segmentation": rle(m)} for i, m in made[0].items()]
    text = json.dumps(entries, indent=1).replace("\n", "\r\n")
    (tmp_path / "p.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    result = score(split, Predictions(tmp_path / "p.json"))
    np.testing.assert_array_equal(result.intersection, made[1])


def test_masks_with_runs_of_no_pixel(split, made, tmp_path):
    _, both, either = made
    entries = [{"sent_id": i, "segmentation": rle(m, False)} for i, m in made[0].items()]
    for entry in entries:
        first, *rest = entry["segmentation"]["counts"]
        entry["segmentation"]["counts"] = [first, *[0] * 5000, *rest]
    result = score(split, Predictions(write(tmp_path / "p.json", entries)))
    np.testing.assert_array_equal(result.intersection, both)
    np.testing.assert_array_equal(result.union, either)


def test_a_mask_of_another_format(split, made, tmp_path):
    """A PostScript file with the suffix .png is not passed to Ghostscript."""
    for i, mask in made[0].items():
        Image.fromarray(mask).save(tmp_path / f"{i}.png")
    first = tmp_path / f"{int(split.index.sent_id[0])}.png"
    first.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EOF\n")
    with pytest.raises(DataError, match=f"sent_id {first.stem}: cannot identify"):
        score(split, Predictions(tmp_path))


def test_bad_files(split, made, tmp_path):
    (tmp_path / "half.json").write_text("[{")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name, message in {"half": "not a complete JSON", "deep": "nested too deeply"}.items():
        with pytest.raises(DataError, match=message):
            Predictions(tmp_path / f"{name}.json")
    with pytest.raises(DataError, match="missing"):
        Predictions(tmp_path / "none.json")
    folder = tmp_path / "png"
    folder.mkdir()
    Image.new("L", (2, 2)).save(folder / "a.png")
    with pytest.raises(DataError, match=r"expected a file name <sent_id>\.png"):
        Predictions(folder)
    (folder / "a.png").unlink()
    for i in made[0]:
        Image.new("RGB", (2, 2)).save(folder / f"{i}.png")
    whole = (folder / f"{i}.png").read_bytes()
    first = folder / f"{int(split.index.sent_id[0])}.png"
    huge = io.BytesIO()
    Image.new("1", (20000, 20000)).save(huge, "png")
    for bad in (whole[:40], whole.replace(b"IDAT", b"ID\0T"), huge.getvalue()):
        first.write_bytes(bad)
        with pytest.raises(DataError, match=f"sent_id {first.stem}: "):
            score(split, Predictions(folder))
    Image.new("RGB", (2, 2)).save(first)
    with pytest.raises(DataError, match="expected one channel"):
        score(split, Predictions(folder))


def test_probabilities_are_not_masks(split, made, tmp_path):
    for i, mask in made[0].items():
        Image.fromarray(mask.astype(np.uint8) * 7).save(tmp_path / f"{i}.png")
    score(split, Predictions(tmp_path))
    first, second, third = sorted(made[0])[:3]
    sizes = {i: made[0][i].shape for i in (first, second, third)}
    soft = np.linspace(0, 255, np.prod(sizes[first])).reshape(sizes[first]).astype(np.uint8)
    Image.fromarray(soft).save(tmp_path / f"{first}.png")
    two = np.where(made[0][second], 9, 5).astype(np.uint8)
    two[0, 0], two[0, 1] = 5, 9
    Image.fromarray(two).save(tmp_path / f"{second}.png")
    Image.fromarray(np.ones(sizes[third], bool)).save(tmp_path / f"{third}.png")  # all of it
    with pytest.raises(DataError) as error:
        score(split, Predictions(tmp_path))
    lines = str(error.value).splitlines()
    assert lines[0] == f"2 of {len(made[0])} predictions cannot be scored:"
    assert any(f"{first}.png contains the values 0, 1, 2, 3, 4, …; expected 0" in x for x in lines)
    assert any(f"{second}.png contains the values 5, 9; expected 0 and one" in x for x in lines)


def test_the_command_imports_no_jax(repo_root, shapes_dir, split, made, tmp_path):
    entries = [{"sent_id": i, "segmentation": rle(m)} for i, m in made[0].items()]
    path = write(tmp_path / "p.json", entries)
    code = (
        "import sys\n"
        "from lts_jax.cli.command import main\n"
        "try: main()\n"
        "finally: assert 'jax' not in sys.modules and 'flax' not in sys.modules\n"
    )
    flags = [f"--predictions={path}", f"--data={shapes_dir}", "--dataset=shapes", "--split=testB"]
    out = subprocess.run(
        [sys.executable, "-c", code, "score", *flags, f"--out={tmp_path}/out"],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert out.returncode == 0, out.stderr
    _, both, either = made
    assert f"{100 * both.sum() / either.sum():.2f}" in out.stdout
    again = [*flags, f"--out={tmp_path}/out"]
    again[0] = f"--predictions={tmp_path}/out/predictions.json"
    refused = subprocess.run(
        [sys.executable, "-m", "lts_jax", "score", *again],
        cwd=repo_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1 and "would overwrite --predictions" in refused.stderr
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["oiou"] == pytest.approx(
        metrics.summarize(both, either, None)["oiou"]
    )
