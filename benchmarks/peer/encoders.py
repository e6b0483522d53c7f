"""The parts of `TorchLTS` up to the fused features: Darknet53, the text encoder, the fusion.

Notation: B batch, H W image size, T words, D text features, C fused features, h w a feature map.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ImageFeatures(NamedTuple):
    """Backbone features at strides 8, 16 and 32: F_v3, F_v2 and F_v1."""

    stride8: Tensor
    stride16: Tensor
    stride32: Tensor


class TextFeatures(NamedTuple):
    """The words' h_t `[B, T, D]`, zero for padding, and the sentence's f_text `[B, D]`."""

    words: Tensor
    sentence: Tensor


def g(x: Tensor) -> Tensor:
    """The paper's g, a Leaky ReLU with slope 0.1."""
    return F.leaky_relu(x, 0.1)


class ConvNormAct(nn.Module):
    """Convolution without bias, BatchNorm, g: `[B, C_in, h, w]` → `[B, C_out, h', w']`."""

    def __init__(
        self, features_in: int, features: int, kernel: int = 1, stride: int = 1, dilation: int = 1
    ) -> None:
        super().__init__()
        padding = dilation if kernel == 3 else 0
        self.conv = nn.Conv2d(features_in, features, kernel, stride, padding, dilation, bias=False)
        self.norm = nn.BatchNorm2d(features, eps=1e-5, momentum=0.1)

    def forward(self, x: Tensor) -> Tensor:
        """One layer."""
        return g(self.norm(self.conv(x)))


class Bottleneck(nn.Module):
    """1×1 to half the channels, then 3×3 back; with a shortcut in Darknet53, not in the neck."""

    def __init__(self, features: int, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.reduce = ConvNormAct(features, features // 2)
        self.expand = ConvNormAct(features // 2, features, 3)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C, h, w]` → the same shape."""
        y = self.expand(self.reduce(x))
        return x + y if self.residual else y


class Darknet53(nn.Module):
    """YOLOv3's backbone: `[B, 3, H, W]` in [0, 1] → features at strides 8, 16 and 32."""

    def __init__(self, width: int, stages: Sequence[int], neck: bool) -> None:
        super().__init__()
        self.stem = ConvNormAct(3, width, 3)
        self.stages = nn.ModuleDict()
        for i, blocks in enumerate(stages, 1):
            stage = nn.Sequential()
            stage.add_module("down", ConvNormAct(width, 2 * width, 3, stride=2))
            width *= 2
            for j in range(blocks):
                stage.add_module(f"block{j}", Bottleneck(width, residual=True))
            self.stages[f"stage{i}"] = stage
        # Without a neck, this is empty: the identity.
        self.neck = nn.Sequential(*(Bottleneck(width, residual=False) for _ in range(3 * neck)))

    def forward(self, image: Tensor) -> ImageFeatures:
        """Returns the outputs of the last three stages, the deepest one after the neck."""
        x = self.stem(image)
        taps = []
        for stage in self.stages.values():
            x = stage(x)
            taps.append(x)
        return ImageFeatures(taps[-3], taps[-2], self.neck(taps[-1]))


class GRU(nn.Module):
    """One direction of Eq. 1 and 2, `[B, T, E]` → `[B, T, D/2]`, with one bias per gate.

    `nn.GRU` has two biases each for the reset and the update gate, of which only the sum matters:
    under Adam, the sum changes twice as fast as a single bias. `torch.gru` is the kernel of
    `nn.GRU`; unlike the module, it works with `torch.compile`.
    """

    def __init__(self, features_in: int, features: int) -> None:
        super().__init__()
        self.features = features
        bound = features**-0.5

        def draw(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(*shape).uniform_(-bound, bound))

        # Rows: reset, update, new. Only "new" has a second bias, inside the reset gate.
        self.weight_ih = draw(3 * features, features_in)
        self.weight_hh = draw(3 * features, features)
        self.bias_ih = draw(3 * features)
        self.bias_hn = draw(features)

    def forward(self, x: Tensor) -> Tensor:
        """Returns the hidden state after every step, starting from zeros."""
        bias_hh = F.pad(self.bias_hn, (2 * self.features, 0))
        weights = [self.weight_ih, self.weight_hh, self.bias_ih, bias_hh]
        start = x.new_zeros(1, x.shape[0], self.features)
        # Excluded from autocast, which runs cuDNN's GRU only in float16; its cost is small.
        with torch.autocast(x.device.type, enabled=False):
            return torch.gru(x, start, weights, True, 1, 0.0, self.training, False, True)[0]


class TextEncoder(nn.Module):
    """Embedding and bidirectional GRU (Eq. 1-4) over the words only, without padding."""

    def __init__(self, vocab_size: int, embed_dim: int, features: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocab_size, embed_dim)
        self.forward_gru = GRU(embed_dim, features)
        self.backward_gru = GRU(embed_dim, features)

    def forward(self, tokens: Tensor, lengths: Tensor) -> TextFeatures:
        """`[B, T]` ids padded at the end, `[B]` lengths."""
        step = torch.arange(tokens.shape[1], device=tokens.device)
        real = step < lengths[:, None]
        # In both directions, padding follows the words and does not affect them: the backward GRU
        # reads the reversed words of each sentence. The same gather restores the order.
        mirror = (lengths[:, None] - 1 - step).clamp(min=0)
        ahead = self.forward_gru(self.embed(tokens))
        back = self.backward_gru(self.embed(tokens.gather(1, mirror)))
        back = back.gather(1, mirror[..., None].expand_as(back))
        words = torch.cat([ahead, back], dim=-1) * real[..., None]
        return TextFeatures(words, words.sum(1) / lengths.clamp(min=1)[:, None])


class Fusion(nn.Module):
    """F_m3 `[B, C, H/8, W/8]` of image and text (Eq. 5-7), or of the image only."""

    def __init__(
        self, image: Sequence[int], text: int, features: int, fuse: bool, coordinates: bool
    ) -> None:
        super().__init__()
        self.coordinates = coordinates
        at8, at16, at32 = (channels + 2 * coordinates for channels in image)
        self.text = nn.Linear(text, features) if fuse else None
        self.image32 = ConvNormAct(at32, features)
        self.up16 = ConvNormAct(features, features // 2)
        self.image16 = ConvNormAct(at16, features // 2)
        self.up8 = ConvNormAct(features, features // 2)
        self.image8 = ConvNormAct(at8, features // 2)

    def forward(self, image: ImageFeatures, sentence: Tensor) -> Tensor:
        """`sentence` is f_text, `[B, D]`."""
        if self.coordinates:
            image = ImageFeatures(*map(self._with_coordinates, image))
        x = self.image32(image.stride32)
        if self.text is not None:
            x = x * g(self.text(sentence)).to(x.dtype)[:, :, None, None]
        x = self._up(self.up16(x), self.image16(image.stride16))
        return self._up(self.up8(x), self.image8(image.stride8))

    @staticmethod
    def _with_coordinates(x: Tensor) -> Tensor:
        # Cell centres; the edges of the map are at -1 and 1.
        b, _, h, w = x.shape
        across, down = (torch.linspace(1 / n - 1, 1 - 1 / n, n).to(x) for n in (w, h))
        grid = torch.stack([across.expand(h, w), down[:, None].expand(h, w)])
        return torch.cat([x, grid.expand(b, 2, h, w)], dim=1)

    @staticmethod
    def _up(coarse: Tensor, fine: Tensor) -> Tensor:
        # Upsampling after the 1×1 of Eq. 7 is equivalent and costs a quarter.
        return torch.cat([F.interpolate(coarse, scale_factor=2.0, mode="nearest"), fine], dim=1)
