"""LTS in PyTorch, for comparing results and speed with `lts_jax`.

It follows the paper and the README's decisions and shares no code with `lts_jax`, so that a bug in
one of them is detected. `benchmarks.peer.weights` converts weights and gradients. It supports both
memory formats, autocast, and `torch.compile(fullgraph=True)`.

Notation: B batch, H W image size, T words, D text features, C fused features, h w a feature map,
N = h·w its positions.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peer.encoders import (
    ConvNormAct,
    Darknet53,
    Fusion,
    ImageFeatures,
    TextEncoder,
    TextFeatures,
    g,
)

Locate = Literal["filter", "word_filter", "transformer", "none"]
Prior = Literal["probability", "logits"]


class Outputs(NamedTuple):
    """Logits, at least float32.

    H_mask is `[B, rounds, H/8, W/8]`, or None without a locator. P_mask is `[B, H/4, W/4]`, or
    `[B, H/8, W/8]` without a segmenter.
    """

    heatmap: Tensor | None
    mask: Tensor


class Attention(nn.Module):
    """Multi-head attention from `[B, N, C]` to `[B, M, C_memory]` → `[B, N, C]`."""

    def __init__(self, features: int, memory: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(memory, features)
        self.value = nn.Linear(memory, features)
        self.out = nn.Linear(features, features)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Each argument has its own projection."""
        q = self.query(query).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k = self.key(key).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        v = self.value(value).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class DecoderLayer(nn.Module):
    """A post-norm transformer decoder layer that adds positions in each attention."""

    def __init__(self, features: int, memory: int) -> None:
        super().__init__()
        self.self_attention = Attention(features, features)
        self.cross_attention = Attention(features, memory)
        self.linear1 = nn.Linear(features, features)
        self.linear2 = nn.Linear(features, features)
        self.norm1 = nn.LayerNorm(features, eps=1e-5)
        self.norm2 = nn.LayerNorm(features, eps=1e-5)
        self.norm3 = nn.LayerNorm(features, eps=1e-5)

    def forward(self, x: Tensor, memory: Tensor, positions: Tensor) -> Tensor:
        """`[B, N, C]`, `[B, M, D]` and `[N, C]` → `[B, N, C]`."""
        q = x + positions
        x = self.norm1(x + self.self_attention(q, q, x))
        x = self.norm2(x + self.cross_attention(x + positions, memory, memory))
        return self.norm3(x + self.linear2(F.relu(self.linear1(x))))


def sine_positions(h: int, w: int, features: int, like: Tensor) -> Tensor:
    """DETR's normalized 2-D sine encoding, `[h·w, features]`: y in the first half, then x.

    The result is float32, independent of the dtype of `like`; the sines are computed in float64.
    """
    half = features // 2
    i = torch.arange(half, device=like.device)
    wavelength = 10000.0 ** (2 * (i // 2).double() / half)

    def encode(n: int) -> Tensor:
        position = torch.arange(1, n + 1, device=like.device).double() / (n + 1e-6) * 2 * math.pi
        angle = position[:, None] / wavelength
        return torch.where(i % 2 == 0, angle.sin(), angle.cos()).float().to(like.dtype)

    y = encode(h)[:, None].expand(h, w, half)
    x = encode(w)[None].expand(h, w, half)
    return torch.cat([y, x], dim=-1).flatten(0, 1)


class Filter(nn.Module):
    """The sentence's kernel over the image features (Eq. 8): logits `[B, h, w]`."""

    def __init__(self, features: int, text: int) -> None:
        super().__init__()
        self.kernel = nn.Linear(text, features, bias=False)

    def forward(self, x: Tensor, text: TextFeatures) -> Tensor:
        """`[B, C, h, w]` and the text → `[B, h, w]`."""
        kernel = self.kernel(text.sentence)[:, None]
        return torch.bmm(kernel, x.flatten(2)).reshape(-1, *x.shape[2:])


class WordFilter(nn.Module):
    """One kernel per word; a regression combines their responses into one map (Table 5)."""

    def __init__(self, features: int, text: int, max_words: int) -> None:
        super().__init__()
        self.kernel = nn.Linear(text, features, bias=False)
        self.regress = nn.Linear(max_words, 1)

    def forward(self, x: Tensor, text: TextFeatures) -> Tensor:
        """`[B, C, h, w]` and the text → `[B, h, w]`."""
        # h_t of padding is zero, and so are its kernel and response.
        responses = torch.bmm(self.kernel(text.words), x.flatten(2))
        return self.regress(responses.transpose(1, 2)).reshape(-1, *x.shape[2:])


class Transformer(nn.Module):
    """A decoder layer over the positions, with f_text as the only memory token (Eq. 9)."""

    def __init__(self, features: int, text: int) -> None:
        super().__init__()
        self.layer = DecoderLayer(features, text)
        self.map = nn.Linear(features, 1)

    def forward(self, x: Tensor, text: TextFeatures) -> Tensor:
        """`[B, C, h, w]` and the text → `[B, h, w]`."""
        _, c, h, w = x.shape
        positions = sine_positions(h, w, c, like=text.sentence)
        x = self.layer(x.flatten(2).transpose(1, 2), text.sentence[:, None], positions)
        return self.map(x).reshape(-1, h, w)


class Segmenter(nn.Module):
    """ASPP over F_m3 and the prior, then a transposed convolution (Eq. 10, Fig. 3)."""

    def __init__(self, features_in: int, features: int, rates: Sequence[int]) -> None:
        super().__init__()
        self.aspp = nn.ModuleDict({"1x1": ConvNormAct(features_in, features)})
        for rate in rates:
            self.aspp[f"rate{rate}"] = ConvNormAct(features_in, features, 3, dilation=rate)
        self.aspp_pool = ConvNormAct(features_in, features)
        self.project = ConvNormAct((len(rates) + 2) * features, features)
        self.upsample = nn.ConvTranspose2d(features, features, 4, stride=2, padding=1, bias=False)
        self.upsample_norm = nn.BatchNorm2d(features, eps=1e-5, momentum=0.1)
        self.mask = nn.Conv2d(features, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """`[B, C_in, h, w]` → logits `[B, 2h, 2w]`."""
        branches = [branch(x) for branch in self.aspp.values()]
        pooled = self.aspp_pool(x.mean(dim=(2, 3), keepdim=True))
        branches.append(pooled.expand(-1, -1, *x.shape[2:]))
        x = self.project(torch.cat(branches, dim=1))
        return self.mask(g(self.upsample_norm(self.upsample(x))))[:, 0]


class TorchLTS(nn.Module):
    """Locate then segment. `encode_image` can be shared by all expressions about an image."""

    def __init__(
        self,
        vocab_size: int,
        *,
        embed_dim: int = 300,
        gru_features: int = 512,
        backbone_width: int = 32,
        backbone_stages: Sequence[int] = (1, 2, 8, 8, 4),
        neck: bool = True,
        fuse: bool = True,
        fused_features: int = 1024,
        coordinates: bool = False,
        locate: Locate = "filter",
        rounds: int = 1,
        segment: bool = True,
        segmenter_features: int = 256,
        segmenter_rates: Sequence[int] = (6, 12, 18),
        prior: Prior = "probability",
        max_words: int = 15,
    ) -> None:
        super().__init__()
        c, text = fused_features, 2 * gru_features
        make = {
            "filter": lambda: Filter(c, text),
            "word_filter": lambda: WordFilter(c, text, max_words),
            "transformer": lambda: Transformer(c, text),
        }
        if locate not in (*make, "none"):
            raise ValueError(f"locate={locate!r}")
        if prior not in ("probability", "logits"):
            raise ValueError(f"prior={prior!r}")
        self.prior = prior
        self.backbone = Darknet53(backbone_width, backbone_stages, neck)
        taps = [backbone_width * 2**i for i in range(len(backbone_stages) + 1)][-3:]
        self.text = TextEncoder(vocab_size, embed_dim, gru_features)
        self.fusion = Fusion(taps, text, c, fuse, coordinates)
        self.rounds = rounds = 0 if locate == "none" else rounds
        self.locator = nn.ModuleDict()
        for i in range(rounds):
            if i:
                self.locator[f"mix{i}"] = ConvNormAct(c + 1, c)
            self.locator[f"round{i}"] = make[locate]()
        self.segmenter = (
            Segmenter(c + min(rounds, 1), segmenter_features, segmenter_rates) if segment else None
        )
        self.head = None if rounds or segment else nn.Conv2d(c, 1, 1)

    def encode_image(self, image: Tensor) -> ImageFeatures:
        """`[B, 3, H, W]` in [0, 1] → F_v3, F_v2, F_v1."""
        return self.backbone(image)

    def encode_text(self, tokens: Tensor, lengths: Tensor) -> TextFeatures:
        """`[B, T]` ids padded at the end, `[B]` lengths → h_t and f_text (Eq. 1-4)."""
        return self.text(tokens, lengths)

    def refer(self, image: ImageFeatures, text: TextFeatures) -> Outputs:
        """Runs the rest of the network, for one expression per image (Eq. 5-10)."""
        fused = self.fusion(image, text.sentence)
        maps: list[Tensor] = []
        for i in range(self.rounds):
            x = self.locator[f"mix{i}"](self._with_prior(fused, maps[-1])) if i else fused
            maps.append(_widen(self.locator[f"round{i}"](x, text)))
        if self.segmenter is not None:
            mask = self.segmenter(self._with_prior(fused, maps[-1]) if maps else fused)
        elif self.head is not None:
            mask = self.head(fused)[:, 0]
        else:
            mask = maps[-1]
        return Outputs(torch.stack(maps, dim=1) if maps else None, _widen(mask))

    def forward(self, image: Tensor, tokens: Tensor, lengths: Tensor) -> Outputs:
        """`[B, 3, H, W]` in [0, 1], `[B, T]` ids padded at the end, `[B]` lengths."""
        return self.refer(self.encode_image(image), self.encode_text(tokens, lengths))

    def _with_prior(self, x: Tensor, logits: Tensor) -> Tensor:
        prior = logits.sigmoid() if self.prior == "probability" else logits
        # Cast to the features' dtype: one float32 channel would promote all others to float32.
        return torch.cat([x, prior[:, None].to(x.dtype)], dim=1)


def loss(outputs: Outputs, truth4: Tensor, truth8: Tensor, location_weight: float) -> Tensor:
    """L = L_seg + λ L_loc (Eq. 11-13): summed over pixels, averaged over batch and rounds.

    Args:
      outputs: outputs of the model.
      truth4: {0, 1} at the segmenter's size, `[B, H/4, W/4]`.
      truth8: {0, 1} at the locator's size, `[B, H/8, W/8]`; also used for a mask of that size.
      location_weight: λ.
    """
    heatmap, mask = outputs
    truth = truth4 if mask.shape == truth4.shape else truth8
    total = _binary_cross_entropy(mask, truth)
    if heatmap is None:
        return total
    per_round = torch.stack([_binary_cross_entropy(x, truth8) for x in heatmap.unbind(1)])
    return total + location_weight * per_round.mean()


def _binary_cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    # Raises an error if the shapes differ.
    truth = truth.to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / len(logits)


def _widen(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))
