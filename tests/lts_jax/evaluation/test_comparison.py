import json
import re

import pytest

from lts_jax.errors import ConfigError
from lts_jax.evaluation import comparison
from lts_jax.evaluation.metrics import METRIC_NAMES


def run(tmp_path, name, ious, **extra):
    entries = [
        {
            "sent_id": i,
            "image_id": i // 3,
            "sentence": f"thing {i}",
            "intersection": round(100 * iou),
            "union": 100,
            **extra,
        }
        for i, iou in enumerate(ious)
    ]
    folder = tmp_path / name / "eval" / "val"
    folder.mkdir(parents=True)
    (folder / "predictions.json").write_text(json.dumps(entries[::-1]))
    (folder / "run.json").write_text(
        "{}"
    )  # marks the evaluation as complete; its content is not read
    return tmp_path / name


def test_boxes(tmp_path):
    a = run(tmp_path, "a", [0.5, 0.5], box_iou=0.5)
    b = run(tmp_path, "b", [0.5, 0.5], box_iou=0.49)
    result = comparison.compare(comparison.read_run(a, "val"), comparison.read_run(b, "val"))
    (part,) = result["thresholds"]
    assert part["metrics"]["acc@0.5"]["a"] == 1 and part["metrics"]["acc@0.5"]["b"] == 0
    old = comparison.read_run(run(tmp_path, "c", [0.5, 0.5]), "val")  # scored without boxes
    result = comparison.compare(comparison.read_run(a, "val"), old)
    assert result["thresholds"][0]["metrics"]["acc@0.5"] is None
    bad = run(tmp_path, "d", [0.5], box_iou="wide")
    with pytest.raises(ConfigError, match="box_iou: 'wide', expected a number from 0 to 1"):
        comparison.read_run(bad, "val")


def test_two_runs(tmp_path, capsys):
    a = run(tmp_path, "a", [0.5] * 30 + [0.9], hit=True)
    b = run(tmp_path, "b", [0.8] * 30 + [0.1], hit=None)
    result = comparison.compare(comparison.read_run(a, "val"), comparison.read_run(b, "val"))
    assert (result["sentences"], result["images"]) == (31, 11)
    (part,) = result["thresholds"]
    assert part["metrics"]["miou"]["difference"] == pytest.approx((30 * 0.3 - 0.8) / 31)
    assert part["metrics"]["pointing"] is None
    assert part["better"] == {"a": 1, "b": 30, "neither": 0}
    worst = part["sentence_by_sentence"][0]
    assert worst == {
        "sent_id": 30,
        "image_id": 10,
        "sentence": "thing 30",
        "iou_a": 0.9,
        "iou_b": 0.1,
    }
    comparison.print_comparison(result, 2)
    out = capsys.readouterr().out
    (group,) = part["kinds"]
    assert (group["group"], group["sentences"]) == ("none of these", 31)
    assert group["metrics"]["miou"]["difference"] == part["metrics"]["miou"]["difference"]
    assert "largest gains of B" in out and "thing 30" in out.split("largest gains of A")[1]
    assert out.count("thing") == 3


def test_by_kind(tmp_path, capsys):
    """The kinds may be recorded in only one of the runs."""
    a = comparison.read_run(run(tmp_path, "a", [0.5, 0.6]), "val")
    b = comparison.read_run(run(tmp_path, "b", [0.7, 0.9]), "val")
    for entry, kind in zip(b.sentences, ("size: biggest", "relation: on"), strict=True):
        entry["kind"] = kind
    (part,) = comparison.compare(a, b)["thresholds"]
    result = {g["group"]: g["metrics"]["miou"]["difference"] for g in part["kinds"]}
    assert result == {
        "relation": pytest.approx(0.3),
        "relation: on": pytest.approx(0.3),
        "size": pytest.approx(0.2),
        "size: biggest": pytest.approx(0.2),
    }
    comparison.print_comparison(comparison.compare(a, b), 0)
    assert re.search(r"relation: on +1 +60\.00 +90\.00 +\+30\.00", capsys.readouterr().out)


def test_other_sentences_and_unscored_ones(tmp_path):
    a = comparison.read_run(run(tmp_path, "a", [0.5, 0.6]), "val")
    b = comparison.read_run(run(tmp_path, "b", [0.5, 0.6, 0.7]), "val")
    with pytest.raises(ConfigError, match="1 sentences are in only one run"):
        comparison.compare(a, b)
    (tmp_path / "p.json").write_text('[{"sent_id": 1, "segmentation": {}}]')
    with pytest.raises(ConfigError, match="no scored predictions"):
        comparison.read_run(tmp_path / "p.json", "val")
    whole = json.loads((tmp_path / "a" / "eval" / "val" / "predictions.json").read_text())
    for name, value, message in (
        ("sent_id", "0", r"p\.json\[0\]: sent_id: '0', expected an integer"),
        ("union", None, r"p\.json\[0\]: union: None"),
        ("sent_id", 0, r"p\.json\[1\]: sent_id 0 is repeated"),
    ):
        (tmp_path / "p.json").write_text(json.dumps([whole[0] | {name: value}, whole[1]]))
        with pytest.raises(ConfigError, match=message):
            comparison.read_run(tmp_path / "p.json", "val")
    with pytest.raises(ConfigError, match="missing"):
        comparison.read_run(tmp_path / "none", "val")


def test_an_interrupted_evaluation_is_not_compared(tmp_path):
    """Its predictions may be from an earlier evaluation."""
    a = run(tmp_path, "a", [0.5, 0.6])
    (a / "eval" / "val" / "run.json").unlink()
    with pytest.raises(ConfigError, match="eval/val: the evaluation was interrupted"):
        comparison.read_run(a, "val")


def at_thresholds(folder, threshold, other, ious):
    """Adds metrics.json, and IoUs at a second threshold if there is one."""
    folder /= "eval/val"
    part = dict.fromkeys(METRIC_NAMES, 0.5)
    summary = part | {"sentences": 2, "images": 1} | threshold
    if other:
        summary["other"] = part | other
        entries = json.loads((folder / "predictions.json").read_text())
        for entry, iou in zip(entries[::-1], ious, strict=True):
            entry["other"] = {"intersection": round(100 * iou), "union": 100}
        (folder / "predictions.json").write_text(json.dumps(entries))
    (folder / "metrics.json").write_text(json.dumps(summary))


def test_runs_are_compared_at_both_thresholds(tmp_path, capsys):
    number, best = ({"threshold": 0.25, "chosen_on": ""}, {"threshold": 0.4, "chosen_on": "val"})
    a, b = (run(tmp_path, name, ious) for name, ious in (("a", [0.2, 0.4]), ("b", [0.9, 0.9])))
    at_thresholds(a, number, best, [0.6, 0.6])
    at_thresholds(b, best | {"threshold": 0.35}, number, [0.3, 0.5])  # eval.threshold=val
    result = comparison.compare(comparison.read_run(a, "val"), comparison.read_run(b, "val"))
    assert [(part["a"], part["b"]) for part in result["thresholds"]] == [
        ("0.25", "0.25"),
        ("0.4, best on val", "0.35, best on val"),
    ]
    differences = [part["metrics"]["miou"]["difference"] for part in result["thresholds"]]
    assert differences == pytest.approx([0.1, 0.3])
    comparison.print_comparison(result, 1)
    assert "A at 0.4, best on val, B at 0.35, best on val" in capsys.readouterr().out
    # A threshold that is both the number and the best one, and a run with an unknown threshold.
    both = run(tmp_path, "both", [0.5, 0.5])
    at_thresholds(both, number | {"chosen_on": "val"}, None, [])
    unknown = run(tmp_path, "unknown", [0.5, 0.5])
    for other in (both, unknown):
        pair = comparison.read_run(a, "val"), comparison.read_run(other, "val")
        result = comparison.compare(*pair)
        differences = [part["metrics"]["miou"]["difference"] for part in result["thresholds"]]
        assert differences == pytest.approx([0.2, -0.1])
    pair = comparison.read_run(both, "val"), comparison.read_run(unknown, "val")
    assert len(comparison.compare(*pair)["thresholds"]) == 1
