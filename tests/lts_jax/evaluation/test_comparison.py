import json

import pytest

from lts_jax.errors import ConfigError
from lts_jax.evaluation import comparison


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
    (folder / "run.json").write_text("{}")  # written last, and not read
    return tmp_path / name


def test_boxes(tmp_path):
    a = run(tmp_path, "a", [0.5, 0.5], box_iou=0.5)
    b = run(tmp_path, "b", [0.5, 0.5], box_iou=0.49)
    found = comparison.compare(comparison.read_run(a, "val"), comparison.read_run(b, "val"))
    assert found["metrics"]["acc@0.5"]["a"] == 1 and found["metrics"]["acc@0.5"]["b"] == 0
    old = comparison.read_run(run(tmp_path, "c", [0.5, 0.5]), "val")  # scored without boxes
    found = comparison.compare(comparison.read_run(a, "val"), old)
    assert found["metrics"]["acc@0.5"] is None
    bad = run(tmp_path, "d", [0.5], box_iou="wide")
    with pytest.raises(ConfigError, match="box_iou: 'wide', expected a number from 0 to 1"):
        comparison.read_run(bad, "val")


def test_two_runs(tmp_path, capsys):
    a = run(tmp_path, "a", [0.5] * 30 + [0.9], hit=True)
    b = run(tmp_path, "b", [0.8] * 30 + [0.1], hit=None)
    found = comparison.compare(comparison.read_run(a, "val"), comparison.read_run(b, "val"))
    assert (found["sentences"], found["images"]) == (31, 11)
    assert found["metrics"]["miou"]["difference"] == pytest.approx((30 * 0.3 - 0.8) / 31)
    assert found["metrics"]["pointing"] is None
    assert found["better"] == {"a": 1, "b": 30, "neither": 0}
    worst = found["sentence_by_sentence"][0]
    assert worst == {
        "sent_id": 30,
        "image_id": 10,
        "sentence": "thing 30",
        "iou_a": 0.9,
        "iou_b": 0.1,
    }
    comparison.print_comparison(found, 2)
    out = capsys.readouterr().out
    assert "where B is better by most" in out and "thing 30" in out.split("where A")[1]
    assert out.count("thing") == 3


def test_other_sentences_and_unscored_ones(tmp_path):
    a = comparison.read_run(run(tmp_path, "a", [0.5, 0.6]), "val")
    b = comparison.read_run(run(tmp_path, "b", [0.5, 0.6, 0.7]), "val")
    with pytest.raises(ConfigError, match="1 are in one of them"):
        comparison.compare(a, b)
    (tmp_path / "p.json").write_text('[{"sent_id": 1, "segmentation": {}}]')
    with pytest.raises(ConfigError, match="no scored predictions"):
        comparison.read_run(tmp_path / "p.json", "val")
    whole = json.loads((tmp_path / "a" / "eval" / "val" / "predictions.json").read_text())
    for name, value, said in (
        ("sent_id", "0", r"p\.json\[0\]: sent_id: '0', expected a whole number"),
        ("union", None, r"p\.json\[0\]: union: None"),
        ("sent_id", 0, r"p\.json\[1\]: sent_id 0 is there twice"),
    ):
        (tmp_path / "p.json").write_text(json.dumps([whole[0] | {name: value}, whole[1]]))
        with pytest.raises(ConfigError, match=said):
            comparison.read_run(tmp_path / "p.json", "val")
    with pytest.raises(ConfigError, match="missing"):
        comparison.read_run(tmp_path / "none", "val")


def test_an_interrupted_evaluation_is_not_compared(tmp_path):
    """Its predictions may be those of an evaluation before it."""
    a = run(tmp_path, "a", [0.5, 0.6])
    (a / "eval" / "val" / "run.json").unlink()
    with pytest.raises(ConfigError, match="eval/val: the evaluation was interrupted"):
        comparison.read_run(a, "val")
