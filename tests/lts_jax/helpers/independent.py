"""An independent evaluation to compare with: OpenCV and NumPy for images, pycocotools for masks.

It shares only the network and the records with lts_jax. As a command, it checks the evaluation of a
run:

    python -m tests.lts_jax.helpers.independent runs/shapes val 1000
"""

import json
import sys
from pathlib import Path

import cv2
import jax
import numpy as np
from pycocotools import mask as coco

from lts_jax.config.flags import saved_config
from lts_jax.distributed.mesh import make_mesh
from lts_jax.evaluation import results
from lts_jax.experiment.restore import restore

NEAR = 1e-5  # probabilities closer to the threshold are ignored


def letterbox(jpeg, size):
    """Returns the square input, the image's shape, and scale and offset per axis."""
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(jpeg, np.uint8), flags)[:, :, ::-1]
    h, w = image.shape[:2]
    scale = size / max(h, w)
    new_h, new_w = max(1, round(h * scale)), max(1, round(w * scale))
    top, left = (size - new_h) // 2, (size - new_w) // 2
    square = np.full((size, size, 3), 128, np.uint8)
    square[top : top + new_h, left : left + new_w] = cv2.resize(image, (new_w, new_h))
    return square, (h, w), (new_h / h, new_w / w), (top, left)


def at_original(logits, size, shape, scales, offsets):
    """Interpolates probabilities bilinearly with the textbook formula, in float64."""
    grid = 1 / (1 + np.exp(-logits.astype(np.float64)))
    stride, last = size / len(grid), len(grid) - 1
    low, part = [], []
    for n, scale, offset in zip(shape, scales, offsets, strict=True):
        at = np.clip(((np.arange(n) + 0.5) * scale + offset) / stride - 0.5, 0, last)
        low.append(np.minimum(np.floor(at).astype(int), last - 1))
        part.append(at - low[-1])
    (y, x), (b, a) = low, part
    y, x, b, a = y[:, None], x[None], b[:, None], a[None]
    upper = grid[y, x] * (1 - a) + grid[y, x + 1] * a
    lower = grid[y + 1, x] * (1 - a) + grid[y + 1, x + 1] * a
    return upper * (1 - b) + lower * b


def truth_of(record, row, index, annotations=None):
    """Returns the union of a sentence's targets, by pycocotools; from polygons if available."""
    h, w = int(index.height[row]), int(index.width[row])
    targets = record["targets"]["object"][record["targets"]["sentence"] == index.sentence[row]]
    parts = []
    for target in targets:
        if annotations is None:
            parts.append({"size": [h, w], "counts": record["objects"]["mask"][target]})
            continue
        raw = annotations[int(record["objects"]["ann_id"][target])]["segmentation"]
        result = coco.frPyObjects(raw, h, w)
        parts += result if isinstance(result, list) else [result]
    return coco.decode(coco.merge(parts)) > 0 if parts else np.zeros((h, w), bool)


def check(model, state, preprocessing, split, threshold, result, rows, annotations=None):
    """Compares lts_jax's results with the independent ones per sentence; returns counts."""

    @jax.jit
    def run(image, tokens, length):
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        return model.apply(variables, image / 255.0, tokens, length, train=False)

    index, size = split.index, preprocessing.image_size
    sums = dict.fromkeys(("sentences", "pixels", "near", "differing", "pointing differs"), 0)
    ious, totals = [], [0, 0]
    for row in rows:
        record = split.record(int(index.record[row]))
        square, shape, scales, offsets = letterbox(record["image"], size)
        sentence = preprocessing.sentence(index.text[row])
        outputs = run(
            square[None].astype(np.float32), sentence["tokens"][None], sentence["length"][None]
        )
        full = at_original(np.asarray(outputs.mask[0]), size, shape, scales, offsets)
        truth = truth_of(record, row, index, annotations)
        theirs, near = full > threshold, np.abs(full - threshold) <= NEAR
        rle = {"size": list(shape), "counts": result.counts[row]}
        ours = coco.decode(rle) > 0
        assert (ours == theirs)[~near].all(), f"row {row}"
        # Computed from our mask, so pixels near the threshold do not matter.
        assert result.intersection[row] == (ours & truth).sum()
        assert result.union[row] == (ours | truth).sum()
        assert result.area[row] == truth.sum()
        if not near.any():
            assert result.intersection[row] == (theirs & truth).sum()
            assert result.union[row] == (theirs | truth).sum()
        if outputs.heatmap is not None:
            heat = np.asarray(outputs.heatmap[0, -1])
            y, x = np.unravel_index(heat.argmax(), heat.shape)
            point = [
                int(np.floor(((at + 0.5) * size / len(heat) - offset) / scale))
                for at, offset, scale in zip((y, x), offsets, scales, strict=True)
            ]
            within = all(0 <= p < n for p, n in zip(point, shape, strict=True))
            hit = bool(within and truth[tuple(point)])
            sums["pointing differs"] += int(hit != result.hit[row])
        both, either = int((theirs & truth).sum()), int((theirs | truth).sum())
        totals[0] += both
        totals[1] += either
        ious.append(both / either if either else 1.0)
        sums["sentences"] += 1
        sums["pixels"] += full.size
        sums["near"] += int(near.sum())
        sums["differing"] += int((ours != theirs).sum())
    sums["oiou"], sums["miou"] = totals[0] / totals[1], float(np.mean(ious))
    return sums


def check_run(workdir, name, most=None, annotations=None):
    """Runs `check` on the files of an evaluated split, for at most `most` sentences."""
    folder = Path(workdir) / "eval" / name
    run, entries = (
        json.loads((folder / file).read_text()) for file in ("run.json", "predictions.json")
    )
    config = saved_config(run["config"])
    mesh = make_mesh(jax.devices()[:1])
    trained = restore(Path(workdir), mesh, run["step"], config)
    experiment = trained.experiment
    split = experiment.dataset.split(name)
    assert [e["sent_id"] for e in entries] == split.index.sent_id.tolist()
    result = results.SplitResults(
        intersection=np.array([e["intersection"] for e in entries]),
        union=np.array([e["union"] for e in entries]),
        area=split.index.area,
        counts=[e["segmentation"]["counts"] for e in entries],
        hit=[e["hit"] for e in entries] if "hit" in entries[0] else None,
    )
    evaluation = experiment.preprocessing, split, config.eval.threshold, result
    rows = range(min(most or len(entries), len(entries)))
    return check(experiment.model, trained.state, *evaluation, rows, annotations)


def read_annotations(instances):
    """Reads COCO's annotations by id."""
    return {entry["id"]: entry for entry in json.loads(Path(instances).read_text())["annotations"]}


def main(workdir, name, most, instances=None):
    annotations = read_annotations(instances) if instances else None
    print(json.dumps(check_run(workdir, name, int(most), annotations), indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:])
