"""Tensor names of the published PyTorch versions of Darknet53.

A file is recognized by the names of its first two convolutions, after any prefix such as
`module.`; all other names follow from the table. Sources, as read in the projects' code:

- SimREC (luogen1996/SimREC), from MCN's authors: BatchNorm's eps 1e-5, pixels in [0, 1].
- mmdetection's `Darknet` and `YOLOV3Neck`: eps 1e-5; its YOLOv3 divides pixels by 255.
- PyTorch-YOLOv3 (eriklindernoren): `module_list.N`, N counts the layers of the cfg file; eps 1e-5.
- ultralytics/yolov3 before version 9: the same with other leaf names; eps 1e-5, from 2020 on 1e-4.
- timm's `darknet53`: LeakyReLU 0.01, eps 1e-5, ImageNet's mean and standard deviation.
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lts_jax.pretrained.layout import Network


class Source(NamedTuple):
    """A project's names for the tensors of Darknet53.

    In the templates, `s` is the stage, `b` the block and `k` the block's convolution, all from 0,
    and `n` the layer number in YOLOv3's cfg file; `s1`, `k1` and so on count from 1.

    Attributes:
      name: name of the project.
      conventions: keys of `lts_jax.models.darknet53.CONVENTIONS` that its weights may need.
      stem: module of the first convolution.
      down: module of a stage's first convolution.
      block: module of a block's two convolutions.
      neck: modules of YOLOv3's six further convolutions; empty if the project publishes none.
      leaves: names of the convolution and the BatchNorm in a module.
      body: regular expression for the names of all tensors before the neck.
    """

    name: str
    conventions: tuple[str, ...]
    stem: str
    down: str
    block: str
    neck: Sequence[str]
    leaves: tuple[str, str]
    body: str

    def modules(self, network: Network) -> dict[str, tuple[str, str]]:
        """Returns the names of convolution and BatchNorm, by `layout.Conv.path`."""
        names = {"stem": self._leaves(self.stem, n=0)}
        n = 1  # a block has three layers: two convolutions and a shortcut
        for s, blocks in enumerate(network.stages):
            names[f"stage{s + 1}_down"] = self._leaves(self.down, n=n, s=s)
            n += 1
            for b in range(blocks):
                for k in (0, 1):
                    path = f"stage{s + 1}_block{b}/ConvNormAct_{k}"
                    names[path] = self._leaves(self.block, n=n + k, s=s, b=b, k=k)
                n += 3
        for i, module in enumerate(self.neck):
            role = "expand" if i % 2 else "reduce"
            names[f"neck{i // 2}_{role}"] = self._leaves(module, n=n + i)
        return names

    def _leaves(self, module: str, **numbers: int) -> tuple[str, str]:
        numbers |= {f"{name}1": value + 1 for name, value in numbers.items()}
        numbers["at"] = 2 * numbers.get("s", 0) + 1  # SimREC: a stage is two modules
        numbers["next"] = numbers["at"] + 1
        conv, norm = (f"{module}.{leaf}".format(**numbers) for leaf in self.leaves)
        return conv, norm


_SIMREC = Source(
    name="SimREC",
    conventions=("darknet",),
    stem="module_list.0",
    down="module_list.{at}",
    block="module_list.{next}.module_list.{b}.{k}",
    neck=(
        *(f"module_list.11.module_list.{i}.{k}" for i in (0, 1) for k in (0, 1)),
        "module_list.12",
        "module_list.13",
    ),
    leaves=("conv", "batch_norm"),
    body=r"module_list\.(\d|10)\.",
)
_MMDETECTION = Source(
    name="mmdetection",
    conventions=("darknet",),
    stem="backbone.conv1",
    down="backbone.conv_res_block{s1}.conv",
    block="backbone.conv_res_block{s1}.res{b}.conv{k1}",
    neck=(*(f"neck.detect1.conv{i}" for i in range(1, 6)), "bbox_head.convs_bridge.0"),
    leaves=("conv", "bn"),
    body=r"backbone\.",
)
_PYTORCH_YOLOV3 = Source(
    name="PyTorch-YOLOv3 (module_list)",
    conventions=("darknet",),
    stem="module_list.{n}",
    down="module_list.{n}",
    block="module_list.{n}",
    neck=("module_list.{n}",) * 6,
    leaves=("conv_{n}", "batch_norm_{n}"),
    body=r"$^",  # matches nothing: the neck's layers are numbered consecutively with the body's
)
_TIMM = Source(
    name="timm",
    conventions=("timm",),
    stem="stem.conv1",
    down="stages.{s}.conv_down",
    block="stages.{s}.blocks.{b}.conv{k1}",
    neck=(),
    leaves=("conv", "bn"),
    body=r"(stem|stages)\.",
)
SOURCES = (
    _SIMREC,
    _SIMREC._replace(leaves=("0", "1")),  # modules in an unnamed Sequential
    _MMDETECTION,
    _MMDETECTION._replace(  # only the backbone, such as `open-mmlab://darknet53`
        stem="conv1",
        down="conv_res_block{s1}.conv",
        block="conv_res_block{s1}.res{b}.conv{k1}",
        neck=(),
        body=r"conv1\.|conv_res_block",
    ),
    _PYTORCH_YOLOV3,
    _PYTORCH_YOLOV3._replace(
        name="ultralytics/yolov3 before version 9 (module_list)",
        conventions=("darknet", "ultralytics_2020"),
        leaves=("Conv2d", "BatchNorm2d"),
    ),
    _TIMM,
)
KNOWN = ", ".join(dict.fromkeys(source.name for source in SOURCES))


def recognize(names: Iterable[str], network: Network) -> tuple[Source, str] | None:
    """Returns the source that uses these tensor names and the prefix before them."""
    names = set(names)
    for source in SOURCES:
        (first, _), (second, _) = list(source.modules(network).values())[:2]
        for name in names:
            prefix = name.removesuffix(f"{first}.weight")
            matches = prefix != name and (not prefix or prefix.endswith("."))
            if matches and f"{prefix}{second}.weight" in names:
                return source, prefix
    return None


def describe_unknown(names: Sequence[str]) -> str:
    """Describes why a file with these tensor names is not supported."""
    if any(re.search(r"(^|\.)model\.\d+\.(cv\d|conv)\.", name) for name in names):
        what = "belong to Ultralytics' YOLOv3 or a successor, another network (SiLU, eps 1e-3)"
    else:
        what = "belong to no known Darknet53"
    some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return (
        f"its tensors, {some}, {what}. Use a file of {KNOWN}, a binary .weights file of Darknet, "
        "or a file written by `lts pretrained darknet` or `lts export`"
    )
