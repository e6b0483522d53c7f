"""The files of an evaluation, and their scores recomputed by pycocotools."""

import json
import shutil

import numpy as np
import pytest
from pycocotools import mask as coco

from lts_jax.data.image_ops import decode_image
from lts_jax.evaluation.metrics import METRIC_NAMES
from lts_jax.evaluation.run import evaluate
from lts_jax.state.checkpoint_reader import CheckpointReader
from tfds_refcoco.masks import decode


@pytest.mark.slow
def test_results_files(whole_run, shapes_data):
    workdir, results = whole_run
    assert list(results) == ["val", "testA", "testB"]
    for name, scores in results.items():
        split = shapes_data.split(name)
        folder = workdir / "eval" / name
        assert json.loads((folder / "metrics.json").read_text()) == scores
        assert list(scores) == [
            "oiou",
            "miou",
            *(f"prec@{x}" for x in (0.5, 0.6, 0.7, 0.8, 0.9)),
            "pointing",
            "acc@0.5",
            "sentences",
            "images",
            "threshold",
            "chosen_on",
            *(["other"] if "other" in scores else []),
        ]
        assert scores["sentences"] == len(split.index.text)
        assert scores["images"] == len(split)
        assert (folder / "gallery.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_best_threshold_is_chosen_on_val_alone(whole_run, tiny_config_factory, tmp_path):
    """Training chooses it by oIoU and stores it in the checkpoint; all splits are scored at it."""
    workdir, results = whole_run
    with CheckpointReader(workdir) as checkpoints:
        best = checkpoints.best_threshold(checkpoints.best_step)
    curve = json.loads((workdir / "eval/val/analysis.json").read_text())["threshold_curve"]
    assert best == curve["threshold"][int(np.argmax(curve["oiou"]))]
    logged = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    scored = [line for line in logged if "best_threshold/value" in line]
    assert {(best, max(curve["oiou"]))} <= {
        (x["best_threshold/value"], x["best_threshold/oiou"]) for x in scored
    }
    assert best != 0.25, "the best threshold equals the default, so this run tests nothing"
    config = tiny_config_factory()
    config.eval.threshold = "val"
    config.eval.splits = ("testA", "testB")
    shutil.copytree(workdir / "checkpoints", tmp_path / "checkpoints")
    for name, scores in evaluate(config, tmp_path).items():
        assert (scores["threshold"], scores["chosen_on"]) == (best, "val")
        assert (scores["other"]["threshold"], scores["other"]["chosen_on"]) == (0.25, "")
        for key, value in results[name]["other"].items():
            assert scores[key] == value
            if key in METRIC_NAMES:
                assert scores["other"][key] == results[name][key]


@pytest.mark.slow
def test_predictions_rescored_by_pycocotools(whole_run, shapes_data):
    workdir, results = whole_run
    split = shapes_data.split("val")
    predictions = json.loads((workdir / "eval" / "val" / "predictions.json").read_text())
    assert [p["sent_id"] for p in predictions] == split.index.sent_id.tolist()
    ious = []
    for row, prediction in enumerate(predictions):
        assert list(prediction) == [
            "sent_id",
            "ref_id",
            "image_id",
            "sentence",
            "kind",
            "area",
            "point",
            "hit",
            "iou",
            "intersection",
            "union",
            "failure",
            "box_iou",
            "segmentation",
            "other",
        ]
        record = split.record(int(split.index.record[row]))
        sentence = split.index.sentence[row]
        assert record["sentences"]["ref_id"][sentence] == prediction["ref_id"]
        (target,) = record["targets"]["object"][record["targets"]["sentence"] == sentence]
        h, w = decode_image(record["image"]).shape[:2]
        assert prediction["segmentation"]["size"] == [h, w]
        truth = coco.encode(np.asfortranarray(decode(record["objects"]["mask"][target], h, w)))
        ours = prediction["segmentation"]
        both = coco.area(coco.merge([ours, truth], intersect=True))
        either = coco.area(coco.merge([ours, truth]))
        assert (prediction["intersection"], prediction["union"]) == (both, either)
        ious.append(both / either)
        boxes = [coco.toBbox(ours), coco.toBbox(truth)]
        of_boxes = coco.iou([boxes[0]], [boxes[1]], [0])[0, 0] if boxes[0].any() else 0
        assert prediction["box_iou"] == pytest.approx(of_boxes, abs=1e-12)
        assert prediction["iou"] == pytest.approx(ious[-1], abs=1e-12)
    assert results["val"]["miou"] == pytest.approx(np.mean(ious), abs=1e-12)
    assert sum(p["intersection"] for p in predictions) > 0


def test_nothing_to_evaluate(tiny_config_factory, tmp_path):
    with pytest.raises(ValueError, match="contains no checkpoint"):
        evaluate(tiny_config_factory(), tmp_path)
