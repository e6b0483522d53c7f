"""Networks with other parts train, resume, evaluate, predict, export and reload."""

import sys

import jax
import numpy as np
import pytest

from lts_jax import Predictor
from lts_jax.distributed.mesh import one_device
from lts_jax.evaluation import run
from lts_jax.experiment import experiment
from lts_jax.experiment.restore import restore
from lts_jax.export.bundle import export_run
from lts_jax.steps.averaging import Averaged
from lts_jax.training import initialization
from lts_jax.training.loop import train

BERT = {
    "model.text": "bert",
    "model.bert_hidden": 16,
    "model.bert_layers": 1,
    "model.bert_heads": 2,
    "model.bert_intermediate": 16,
    "model.dropout": 0.1,
}
RECIPE = {
    "train.weight_decay": 0.01,
    "train.clip_norm": 1.0,
    "train.warmup_epochs": 0.1,
    "train.decay_power": 0.9,
    "train.ema": 0.99,
}
SWIN = {
    "model.backbone": "swin_tiny",
    "model.backbone_width": 8,
    "model.backbone_stages": (0, 2, 0, 0),
    "model.drop_path": 0.2,
}
CMPC = {
    "model.network": "cmpc",
    "model.text": "lstm",
    "model.backbone": "resnet50_dilated",
    "model.backbone_width": 4,
    "model.backbone_stages": (1, 1, 0, 0),
    "model.level_features": 8,
    "model.fused_features": 8,
    "model.exchange_rounds": 1,
}
COMBINATIONS = {
    "pointrend": {
        "model.refine": "pointrend",
        "model.refine_points": 64,
        "train.flip": 0.5,
        "train.crop": 0.5,
        "train.mask_words": 0.2,
        "train.mask_patches": 0.2,
        "train.location_loss": "softmax",
        "train.sentences_per_image": 2,
        "train.accumulate": 2,
        "train.remat": True,
    },
    "attention": {
        "model.attention_layers": 2,
        "model.attention_words": True,
        "train.remat": True,
        "train.lr_multipliers.fusion": 0.5,
    },
    "swin_bert": SWIN | BERT | RECIPE,
    "convnext_gru": {
        "model.backbone": "convnext_tiny",
        "model.backbone_width": 8,
        "model.backbone_stages": (1, 0, 0, 0),
        "train.ema": 0.9,
    },
    "resnet_bert": {
        "model.backbone": "resnet50_dilated",
        "model.backbone_width": 4,
        "model.backbone_stages": (1, 1, 1, 1),
        "model.locate": "word_filter",
        "train.freeze": "backbone+text",
        **BERT,
    },
    "cmpc": CMPC | {"train.location_weight": 0.0, "model.segment": False},
    "cmpc_seg": CMPC | RECIPE | {"train.freeze": "backbone", "train.remat": True},
    "cmpc_bert": CMPC | BERT | {"train.accumulate": 2, "train.dice_weight": 0.1},
    "efficientnet_gru": {
        "model.backbone": "efficientnet_lite0",
        "model.backbone_width": 8,
        "model.backbone_stages": (1, 1, 1, 0, 1, 0, 1),
        "train.accumulate": 2,
        "train.remat": True,
        "model.drop_path": 0.2,
    },
}


@pytest.fixture
def make_config(tiny_config_factory, monkeypatch):
    for module in (experiment, run):  # on one device, which compiles faster
        monkeypatch.setattr(module, "make_mesh", lambda *_, **__: one_device())

    def make(fields):
        config = tiny_config_factory()
        config.train.epochs = 0.1
        config.train.drop_epochs = ()
        config.eval.splits = ("testA",)
        config.update_from_flattened_dict(fields)
        return config

    return make


@pytest.mark.slow
@pytest.mark.parametrize("name", COMBINATIONS)
def test_from_training_to_the_export(name, make_config, tmp_path, monkeypatch):
    config = make_config(COMBINATIONS[name])
    workdir = tmp_path / "run"
    train(config, workdir)
    metrics = run.evaluate(config, workdir)
    assert 0 <= metrics["testA"]["oiou"] <= 1
    trained = restore(workdir, one_device())
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    predictor = Predictor(workdir)
    one, two = predictor(image, ["red circle", "the blue square"])
    if "bert" in name:
        assert one.unknown_words == two.unknown_words == []
    export_run(workdir, "stablehlo", tmp_path / "out")
    monkeypatch.syspath_prepend(str(tmp_path / "out"))
    for module in ("loader", "pixels", "tokens"):
        sys.modules.pop(module, None)
    from loader import load

    segment = load(tmp_path / "out")
    for prediction, text in ((one, "red circle"), (two, "the blue square")):
        np.testing.assert_allclose(segment(image, text), prediction.probability, atol=1e-3)
    frozen_stays(trained)


def frozen_stays(trained):
    first = trained.experiment.initial_state().params
    for part in trained.experiment.frozen:
        jax.tree.map(np.testing.assert_array_equal, first[part], trained.state.params[part])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["swin_bert", "pointrend"])
def test_a_resumed_run_is_the_same(name, make_config, tmp_path):
    """Random numbers depend on the seed and the step; the average is in the checkpoint."""
    config = make_config(COMBINATIONS[name] | {"train.decay_power": 0.0})
    train(config, tmp_path / "whole")
    config.train.epochs = 0.04
    train(config, tmp_path / "parts")
    config.train.epochs = 0.1
    train(config, tmp_path / "parts")
    whole, parts = (restore(tmp_path / name, one_device(), None) for name in ("whole", "parts"))
    assert whole.step == parts.step
    for path, value in parts.arrays.items():
        np.testing.assert_array_equal(value, whole.arrays[path])


def test_the_state_has_two_copies_of_the_weights_with_an_average(make_config):
    from lts_jax.experiment.experiment import Experiment

    experiment = Experiment.from_config(make_config(SWIN | RECIPE))
    state = experiment.abstract_state
    assert isinstance(state.opt_state, Averaged)
    trees = jax.tree.structure(state.params), jax.tree.structure(state.opt_state.trained)
    assert trees[0] == trees[1]


def test_the_record_of_another_backbone_has_its_input_and_epsilon(
    tiny_config_factory, tmp_path, monkeypatch
):
    config = tiny_config_factory()
    config.model.backbone = "efficientnet_lite0"
    config.model.backbone_weights = str(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").write_bytes(b"x")
    monkeypatch.setattr(initialization, "load_network", lambda *_: ({}, {"loaded": 0}))
    _, source = initialization._read_backbone(config.model, {})
    assert source["used_conventions"] == {
        "mean": (127 / 255,) * 3,
        "std": (128 / 255,) * 3,
        "epsilon": 1e-3,
    }
