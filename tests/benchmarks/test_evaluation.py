"""The benchmark of evaluation, on a small generated dataset with a tiny network."""

import importlib.util

import pytest

import tfds_refcoco
from benchmarks import evaluation
from lts_jax.configs import shapes
from tests.lts_jax.helpers.tiny import TINY
from tfds_refcoco.shapes import generate

pytestmark = pytest.mark.slow  # one evaluation with four variants


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    generate(folder / "raw", scenes={"train": 4, "val": 5}, progress=False)
    tfds_refcoco.build("shapes", folder, folder / "raw", progress=False)
    config = shapes.get_config()
    config.data.dir = str(folder)
    config.data.image_size = 64
    config.model.update(TINY)
    config.eval.batch_size = 8
    peer = "torch" if importlib.util.find_spec("torch") else None
    return evaluation.benchmark(config, None, "val", repeats=2, images=4, against=peer)


def test_both_ways_are_timed_and_give_the_same(result):
    shared, alone = (result["timing"][way] for way in evaluation.WAYS)
    assert (result["images"], shared["images_encoded"]) == (4, 4)
    assert alone["images_encoded"] == result["sentences"] > 4
    assert len(shared["seconds"]) == len(alone["seconds"]) == 2
    comparison = result["comparison"]
    assert comparison["max_abs_probability_difference"] <= 1e-5
    assert (
        comparison["predicted_pixels_that_differ"]
        == comparison["of_these_within_1e-5_of_the_threshold"]
    )
    if comparison["predicted_pixels_that_differ"] == 0:
        assert comparison["predictions_json_identical"]
        assert comparison["sentences_that_differ"] == comparison["largest_iou_difference"] == 0


def test_the_peer_gives_the_same_to_a_pixel_or_two(result):
    pytest.importorskip("torch")
    ours = result["timing"]["shared"]["metrics"]
    for way in evaluation.WAYS:
        theirs = result["timing"][f"torch, {way}"]
        assert len(theirs["seconds"]) == 2
        for name in ("oiou", "miou"):
            assert theirs["metrics"][name] == pytest.approx(ours[name], abs=1e-4)


def test_the_tables_are_printed(result, capsys):
    evaluation.print_result(result)
    out = capsys.readouterr().out
    assert "per sentence" in out and "times faster" in out and "predictions json identical" in out
