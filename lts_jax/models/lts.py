"""LTS, the whole network (Figure 2)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from lts_jax.models.backbones import BACKBONES
from lts_jax.models.bert import BertEncoder
from lts_jax.models.darknet53 import CONVENTIONS, Conventions, ImageFeatures
from lts_jax.models.fusion import Fusion
from lts_jax.models.layers import Dtype, for_sentences, rematerialized
from lts_jax.models.locator import LOCATORS, Locate, Locator, Prior, as_prior
from lts_jax.models.segmenter import Segmenter
from lts_jax.models.text_encoder import TextEncoder, TextFeatures


class Outputs(NamedTuple):
    """Logits of the network, float32."""

    heatmap: (
        Float[Array, "b rounds h8 w8"] | None
    )  # H_mask, [B, rounds, H/8, W/8]; None without a locator
    mask: Float[Array, "b h4 w4"]  # P_mask, [B, H/4, W/4]; [B, H/8, W/8] without a segmenter

    def finite(self) -> Bool[Array, " b"]:
        """Whether all logits of a sentence are finite."""
        maps = [x for x in (self.mask, self.heatmap) if x is not None]
        each = [jnp.isfinite(x).all(axis=tuple(range(1, x.ndim))) for x in maps]
        return jnp.stack(each).all(axis=0)


class PreparedImage(NamedTuple):
    """An encoded image, and what else of it no sentence changes."""

    taps: ImageFeatures  # behind the fusion's 1×1 convolutions
    segmenter: dict[str, jax.Array]  # `Segmenter.of_image`; empty without a segmenter


class LTS(nn.Module):
    """Locate then Segment. The defaults are the paper's sizes.

    Attributes:
      vocab_size: words known, with padding (0) and unknown (1); with BERT, word pieces.
      text_encoder: "gru", the paper's, or "bert".
      embed_dim: size of a word vector.
      gru_features: GRU units per direction; f_text has twice as many.
      bert_hidden: BERT's channels, and those of f_text.
      bert_layers: their number.
      bert_heads: of its attention.
      bert_intermediate: channels of its MLPs.
      bert_positions: the longest sentence that it has position embeddings for, in word pieces.
      image_encoder: a name in `lts_jax.models.backbones.BACKBONES`.
      backbone_width: channels of its first stage; 0: the published.
      backbone_stages: blocks per stage; (): the published.
      backbone_conventions: slope, epsilon and normalization of the image in Darknet53.
      neck: YOLOv3's six extra convolutions on the stride-32 tap.
      fuse: False leaves the sentence out of the fusion.
      fused_features: channels of F_m1, F_m2 and F_m3 (d_k of Eq. 8).
      coordinates: the fusion sees where in the image a cell is.
      locate: kind of the locator, or "none".
      rounds: of the locator, n of Table 5.
      segment: False makes the locator's last map, or without a locator a 1×1 convolution on
        F_m3, the mask.
      segmenter_features: channels of each ASPP branch.
      segmenter_rates: dilations of ASPP.
      prior: what the segmenter, and the locator's next round, see of the heatmap: its
        probabilities or its logits.
      drop_path: stochastic depth in the backbone's last block, in training.
      dropout: BERT's, in training.
      dtype: of the computation; parameters, statistics and outputs are float32.
      remat: in training, keep little for the backward pass and compute it again there.
    """

    vocab_size: int
    text_encoder: Literal["gru", "bert"] = "gru"
    embed_dim: int = 300
    gru_features: int = 512
    bert_hidden: int = 768
    bert_layers: int = 12
    bert_heads: int = 12
    bert_intermediate: int = 3072
    bert_positions: int = 512
    image_encoder: str = "darknet53"
    backbone_width: int = 32
    backbone_stages: Sequence[int] = (1, 2, 8, 8, 4)
    backbone_conventions: Conventions = CONVENTIONS["darknet"]
    neck: bool = True
    fuse: bool = True
    fused_features: int = 1024
    coordinates: bool = False
    locate: Locate = "filter"
    rounds: int = 1
    segment: bool = True
    segmenter_features: int = 256
    segmenter_rates: Sequence[int] = (6, 12, 18)
    prior: Prior = "probability"
    drop_path: float = 0.0
    dropout: float = 0.0
    dtype: Dtype = jnp.float32
    remat: bool = False

    def setup(self) -> None:
        """Builds the parts; each is a field of the parameter tree."""
        if self.prior not in ("probability", "logits"):
            raise ValueError(f"model.prior must be 'probability' or 'logits', not {self.prior!r}")
        if self.locate not in (*LOCATORS, "none"):
            raise ValueError(f"model.locate must be {', '.join(LOCATORS)} or none: {self.locate!r}")
        if self.locate == "none" and not self.fuse:
            raise ValueError("a network without fusion and without a locator never sees the text")
        is_darknet = self.image_encoder == "darknet53"
        options = {"neck": self.neck, "conventions": self.backbone_conventions}
        self.backbone = BACKBONES[self.image_encoder].make(
            self.backbone_width,
            self.backbone_stages,
            drop_path=self.drop_path,
            dtype=self.dtype,
            remat=self.remat,
            **(options if is_darknet else {}),
        )
        self.text = self._make_text_encoder()
        self.fusion = Fusion(self.fused_features, self.fuse, self.coordinates, dtype=self.dtype)
        if self.locate != "none":
            self.locator = Locator(self.locate, self.rounds, self.prior, dtype=self.dtype)
        if self.segment:
            self.segmenter = Segmenter(
                self.segmenter_features, self.segmenter_rates, dtype=self.dtype
            )
        elif self.locate == "none":
            self.head = nn.Dense(1, dtype=self.dtype)

    def _make_text_encoder(self) -> TextEncoder | BertEncoder:
        if self.text_encoder == "gru":
            return TextEncoder(self.vocab_size, self.embed_dim, self.gru_features, dtype=self.dtype)
        return BertEncoder(
            self.vocab_size,
            self.bert_hidden,
            self.bert_layers,
            self.bert_heads,
            self.bert_intermediate,
            self.bert_positions,
            self.dropout,
            dtype=self.dtype,
            remat=self.remat,
        )

    def encode_image(self, image: Float[Array, "b h w 3"], *, train: bool) -> ImageFeatures:
        """Encodes `[B, H, W, 3]` RGB in [0, 1], once however many sentences refer to it."""
        features: ImageFeatures = self.backbone(image, train=train)
        return features

    def encode_text(
        self, tokens: Int[Array, "b t"], lengths: Int[Array, " b"], *, train: bool = False
    ) -> TextFeatures:
        """Encodes ids int32 `[B, T]` with lengths int32 `[B]`."""
        return self.text(tokens, lengths, train=train)

    def prepare(self, image: ImageFeatures) -> PreparedImage:
        """In evaluation, computes once for an image what `refer` would for each sentence."""
        taps = self.fusion.of_image(image, train=False)
        return PreparedImage(taps, self.segmenter.of_image(taps.stride8) if self.segment else {})

    def refer(
        self, image: ImageFeatures | PreparedImage, text: TextFeatures, *, train: bool
    ) -> Outputs:
        """Fuses, locates and segments: one mask for each of B sentences.

        Args:
          image: of B images, or of K, each with B / K sentences, one behind the other.
          text: of the sentences.
          train: use the batch's own BatchNorm statistics.
        """
        run = rematerialized(self.remat and train)
        if isinstance(image, PreparedImage):
            features = self.fusion(image.taps, text.sentence, train=train, known=True)
            known = image.segmenter
        else:
            features, known = run(self.fusion, image, text.sentence, train=train), {}
        fused = for_sentences(features.whole(), text.sentence.shape[0])
        heatmap = prior = None
        if self.locate != "none":
            heatmap = self.locator(fused, text, train=train).astype(jnp.float32)
            prior = as_prior(heatmap[:, -1], self.prior)
        if self.segment:
            mask = run(self.segmenter, features, prior, known, train=train)
        elif heatmap is not None:
            mask = heatmap[:, -1]
        else:
            mask = self.head(fused)[..., 0]
        return Outputs(heatmap, mask.astype(jnp.float32))

    def __call__(
        self,
        image: Float[Array, "b h w 3"],
        tokens: Int[Array, "b t"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
    ) -> Outputs:
        """Segments `[B, H, W, 3]` images, or K with B / K sentences each, by `[B, T]` sentences."""
        return self.refer(
            self.encode_image(image, train=train),
            self.encode_text(tokens, lengths, train=train),
            train=train,
        )
