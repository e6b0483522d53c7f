"""Darknet53 in PyTorch with the tensor names of four projects.

Written from the projects' public code, without code of lts_jax. Each network takes images
`[B, 3, H, W]` in [0, 1] and returns features at strides 8, 16 and 32, the last one after YOLOv3's
neck if the project has one.
"""

from collections import OrderedDict

import torch
from torch import nn

STAGES = (1, 2, 3, 2, 1)  # published: (1, 2, 8, 8, 4); enough to detect wrong layer numbers


def unit(inputs, outputs, kernel, stride=1, names=("conv", "bn"), slope=0.1, eps=1e-5):
    return nn.Sequential(
        OrderedDict(
            [
                (names[0], nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)),
                (names[1], nn.BatchNorm2d(outputs, eps=eps)),
                ("act", nn.LeakyReLU(slope)),
            ]
        )
    )


class Block(nn.Module):
    """A block of timm and mmdetection: two named convolutions."""

    def __init__(self, c, **options):
        super().__init__()
        self.conv1 = unit(c, c // 2, 1, **options)
        self.conv2 = unit(c // 2, c, 3, **options)

    def forward(self, x):
        return x + self.conv2(self.conv1(x))


class Timm(nn.Module):
    """timm's `darknet53`: default LeakyReLU slope, ImageNet normalization, classifier."""

    def __init__(self, width):
        super().__init__()
        self.stem = nn.Sequential(OrderedDict(conv1=unit(3, width, 3, slope=0.01)))
        stages = []
        for i, blocks in enumerate(STAGES):
            c = width * 2**i
            stage = OrderedDict(conv_down=unit(c, 2 * c, 3, 2, slope=0.01))
            stage["blocks"] = nn.Sequential(*(Block(2 * c, slope=0.01) for _ in range(blocks)))
            stages.append(nn.Sequential(stage))
        self.stages = nn.Sequential(*stages)
        self.head = nn.Module()
        self.head.fc = nn.Linear(32 * width, 10)

    def forward(self, x):
        mean, std = torch.tensor([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]])
        x = self.stem((x - mean[:, None, None]) / std[:, None, None])
        taps = []
        for stage in self.stages:
            x = stage(x)
            taps.append(x)
        return taps[2:]


class Mmdetection(nn.Module):
    """mmdetection's `Darknet`, and the parts of `YOLOV3Neck` and `YOLOV3Head` that use it."""

    def __init__(self, width):
        super().__init__()
        self.backbone = nn.Module()
        self.backbone.conv1 = unit(3, width, 3)
        for i, blocks in enumerate(STAGES, start=1):
            c = width * 2**i
            stage = OrderedDict(conv=unit(c // 2, c, 3, 2))
            stage |= {f"res{j}": Block(c) for j in range(blocks)}
            setattr(self.backbone, f"conv_res_block{i}", nn.Sequential(stage))
        c = 32 * width
        self.neck = nn.Module()
        self.neck.detect1 = nn.Module()
        for i in range(1, 6):
            ends = (c, c // 2, 1) if i % 2 else (c // 2, c, 3)
            setattr(self.neck.detect1, f"conv{i}", unit(*ends))
        self.neck.conv1 = unit(c // 2, c // 4, 1)
        self.bbox_head = nn.Module()
        self.bbox_head.convs_bridge = nn.ModuleList([unit(c // 2, c, 3), unit(c // 4, c // 2, 3)])
        self.bbox_head.convs_pred = nn.ModuleList([nn.Conv2d(c, 255, 1)])

    def forward(self, x):
        x = self.backbone.conv1(x)
        taps = []
        for i in range(1, 6):
            x = getattr(self.backbone, f"conv_res_block{i}")(x)
            taps.append(x)
        for i in range(1, 6):
            x = getattr(self.neck.detect1, f"conv{i}")(x)
        return *taps[2:4], self.bbox_head.convs_bridge[0](x)


class SimrecBlocks(nn.Module):
    def __init__(self, c, blocks, shortcut=True):
        super().__init__()
        names = ("conv", "batch_norm")
        self.module_list = nn.ModuleList(
            nn.ModuleList([unit(c, c // 2, 1, names=names), unit(c // 2, c, 3, names=names)])
            for _ in range(blocks)
        )
        self.shortcut = shortcut

    def forward(self, x):
        for first, second in self.module_list:
            y = second(first(x))
            x = x + y if self.shortcut else y
        return x


class Simrec(nn.Module):
    """SimREC's `DarkNet53`, which loads MCN's weights."""

    def __init__(self, width):
        super().__init__()
        names = ("conv", "batch_norm")
        modules = [unit(3, width, 3, names=names)]
        for i, blocks in enumerate(STAGES, start=1):
            c = width * 2**i
            modules += [unit(c // 2, c, 3, 2, names=names), SimrecBlocks(c, blocks)]
        modules.append(SimrecBlocks(c, 2, shortcut=False))
        modules += [unit(c, c // 2, 1, names=names), unit(c // 2, c, 3, names=names)]
        self.module_list = nn.ModuleList(modules)

    def forward(self, x):
        taps = []
        for i, module in enumerate(self.module_list):
            x = module(x)
            if i in (6, 8):
                taps.append(x)
        return *taps, x


class ModuleList(nn.Module):
    """YOLOv3's cfg file layer by layer, as in PyTorch-YOLOv3 and ultralytics/yolov3 until 2020.

    Args:
      width: of the first convolution.
      names: of convolution and BatchNorm; `{}` is the layer's number.
      eps: of BatchNorm.
    """

    def __init__(self, width, names=("conv_{}", "batch_norm_{}"), eps=1e-5):
        super().__init__()
        self.module_list, self.shortcuts, self.taps = nn.ModuleList(), set(), []

        def add(*ends):
            at = [name.format(len(self.module_list)) for name in names]
            self.module_list.append(unit(*ends, names=at, eps=eps))

        add(3, width, 3)
        for i, blocks in enumerate(STAGES, start=1):
            c = width * 2**i
            add(c // 2, c, 3, 2)
            for _ in range(blocks):
                add(c, c // 2, 1)
                add(c // 2, c, 3)
                self.shortcuts.add(len(self.module_list))
                self.module_list.append(nn.Sequential())
            self.taps.append(len(self.module_list) - 1)
        for i in range(6):
            add(*((c // 2, c, 3) if i % 2 else (c, c // 2, 1)))
        self.taps = [*self.taps[2:4], len(self.module_list) - 1]
        head = OrderedDict([(names[0].format(len(self.module_list)), nn.Conv2d(c, 255, 1))])
        self.module_list.append(nn.Sequential(head))

    def forward(self, x):
        outputs = []
        for i, module in enumerate(self.module_list[:-1]):
            x = x + outputs[i - 3] if i in self.shortcuts else module(x)
            outputs.append(x)
        return [outputs[i] for i in self.taps]


def randomized(model, seed=0, gain=1.0):
    """Draws the parameters, with kernels times `gain`, and estimates BatchNorm statistics."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.data *= gain
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            module.momentum = None
    with torch.no_grad():
        model.train()(torch.rand(4, 3, 96, 96))
    return model.eval()
