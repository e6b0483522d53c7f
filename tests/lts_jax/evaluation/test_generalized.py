"""The metrics of gRefCOCO: compared with per-sentence formulas, and in files and tables."""

import json

import numpy as np
import pytest
from PIL import Image

import tfds_refcoco
from lts_jax.cli.command import main
from lts_jax.evaluation import bootstrap, comparison, metrics
from lts_jax.evaluation.bootstrap import Scores

AT = (0.5, 0.6, 0.7, 0.8, 0.9)


def reference(predictions, truths):
    """The definitions of the paper (GRES, Section 3.3) per sentence, with sets of pixels.

    Pr@X as in the authors' evaluator: the share of sentences with a target with an IoU ≥ X.
    """
    ious, hits, both, either = [], dict.fromkeys(AT, 0), 0, 0
    outcomes = {"TP": 0, "FN": 0, "TN": 0, "FP": 0}
    for prediction, truth in zip(predictions, truths, strict=True):
        both += len(prediction & truth)
        either += len(prediction | truth)
        if not truth:
            outcomes["FN" if prediction else "TP"] += 1
            ious.append(0.0 if prediction else 1.0)
            continue
        outcomes["TN" if prediction else "FP"] += 1
        ious.append(len(prediction & truth) / len(prediction | truth))
        for x in AT:
            hits[x] += ious[-1] >= x
    empty = outcomes["TP"] + outcomes["FN"]
    full = outcomes["TN"] + outcomes["FP"]
    return {
        "giou": sum(ious) / len(ious),
        "ciou": both / either if either else 1.0,
        "n_acc": outcomes["TP"] / empty if empty else None,
        "t_acc": outcomes["TN"] / full if full else None,
        **{f"pr@{x}": hits[x] / full if full else None for x in AT},
    }


def same(result, expected):
    for name, value in expected.items():
        if value is None:
            assert result[name] is None
        else:
            assert result[name] == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize("seed", range(200))
def test_equal_to_the_formulas(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    no_target, no_mask = rng.choice([0.0, 0.3, 1.0], p=[0.3, 0.6, 0.1]), rng.random()
    predictions, truths = [], []
    for _ in range(n):
        truth = set() if rng.random() < no_target else set(range(10))
        if rng.random() < no_mask * 0.7:
            prediction = set()
        else:  # inside the target: an IoU of exactly 0.5 to 1
            prediction = set(range(int(rng.integers(1, 11)))) | set(
                range(10, 10 + int(rng.integers(0, 3)))
            )
        predictions.append(prediction)
        truths.append(truth)
    pairs = list(zip(predictions, truths, strict=True))
    intersection = np.array([len(a & b) for a, b in pairs])
    union = np.array([len(a | b) for a, b in pairs])
    area = np.array([len(truth) for truth in truths])
    expected = reference(predictions, truths)
    result = metrics.summarize_generalized(intersection, union, area)
    assert list(result) == list(metrics.GENERALIZED)
    same(result, expected)
    scores = Scores(np.arange(n) // 2, intersection, union, None, area)
    summary = scores.summarize()
    if all(truths):  # as in RefCOCO, whose splits do not have these metrics
        assert list(summary) == list(metrics.METRIC_NAMES)
        return
    same(summary, expected)
    # The intervals use the same ratios: drawing each image once gives the metrics.
    names, sums = bootstrap._sums(scores)
    ratios = bootstrap._ratios(np.ones((1, sums.shape[1])), sums)[0]
    for name, value in zip(names, ratios, strict=True):
        if name in expected and sums[1, :, names.index(name)].any():
            assert value == pytest.approx(expected[name], rel=1e-12)


@pytest.fixture
def data(tmp_path):
    """Custom data: four sentences for two images; two sentences have no target."""
    raw = tmp_path / "raw"
    raw.mkdir()
    square = {"mask": {"polygons": [[0, 0, 10, 0, 10, 10, 0, 10]]}}
    images = []
    for i in range(2):
        Image.new("RGB", (20, 20), (i, 0, 0)).save(raw / f"{i}.png")
        sentences = [{"text": "the square", "objects": [0]}, {"text": "the dog", "objects": []}]
        row = {"file": f"{i}.png", "split": "val", "objects": [square], "sentences": sentences}
        images.append(row)
    (raw / "custom.json").write_text(json.dumps({"images": images}))
    tfds_refcoco.build("custom", tmp_path / "data", raw, progress=False)
    return tmp_path / "data"


def test_scored_compared_and_written(data, tmp_path, capsys):
    """One target is segmented and one is missed; one empty mask is correct and one is not."""
    inside, nothing = [0, 200, 200], [400]
    entries = [
        {"sent_id": i, "segmentation": {"size": [20, 20], "counts": counts}}
        for i, counts in enumerate((inside, nothing, nothing, inside))
    ]
    (tmp_path / "p.json").write_text(json.dumps(entries))
    command = ["score", f"--predictions={tmp_path}/p.json", f"--data={data}"]
    command += ["--dataset=custom", f"--out={tmp_path}/out"]
    main(command)
    out = capsys.readouterr().out
    assert "gRefCOCO, %" in out and "gRefCOCO, 95 %" in out
    for label in ("gIoU", "cIoU", "N-acc", "T-acc", "Pr@0.7"):
        assert label in out
    result = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (result["n_acc"], result["t_acc"]) == (0.5, 0.5)
    assert result["pr@0.5"] == 0.5  # 100 of 200 pixels: X itself counts, unlike in prec@X
    assert result["pr@0.6"] == 0.0 and result["prec@0.9"] == 0.25  # a correct empty mask
    assert result["giou"] == (0.5 + 1 + 0 + 0) / 4
    assert result["ciou"] == 100 / (200 + 0 + 100 + 200)
    analysis = json.loads((tmp_path / "out" / "analysis.json").read_text())
    assert analysis["intervals"]["n_acc"] is not None
    run = comparison.read_run(tmp_path / "out", "val")
    compared = comparison.compare(run, run)
    assert compared["thresholds"][0]["metrics"]["t_acc"]["a"] == 0.5
    comparison.print_comparison(compared, 2)
    assert "n_acc" in capsys.readouterr().out
