"""The interface of a network: what training, evaluation, inference and export know of it.

docs/architecture.md describes how to add one.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Num

from lts_jax.models.backbones import BACKBONES
from lts_jax.models.bert import BertEncoder
from lts_jax.models.darknet53 import CONVENTIONS, Conventions, ImageFeatures
from lts_jax.models.layers import Dtype
from lts_jax.models.lstm import LSTMEncoder
from lts_jax.models.pointrend import Points
from lts_jax.models.text_encoder import TextEncoder, TextFeatures

LocationLoss = Literal["bce", "softmax"]
Loss = tuple[Float[Array, ""], dict[str, Float[Array, ""]]]
"""What is minimized, and the losses by name, `loss` among them."""


class Outputs(NamedTuple):
    """Logits of a network, float32."""

    heatmap: (
        Float[Array, "b rounds h8 w8"] | None
    )  # H_mask, [B, rounds, H/8, W/8]; None without a locator
    mask: Float[Array, "b h4 w4"]  # P_mask, [B, H/4, W/4]; [B, H/8, W/8] without a segmenter;
    # with PointRend, in evaluation, [B, H, W]
    auxiliary: Float[Array, "b n h8 w8"] | None = None  # further maps, which the loss alone reads
    points: Points | None = None  # in training with PointRend

    def finite(self) -> Bool[Array, " b"]:
        """Whether all logits of a sentence are finite."""
        maps = [x for x in (self.mask, self.heatmap) if x is not None]
        each = [jnp.isfinite(x).all(axis=tuple(range(1, x.ndim))) for x in maps]
        return jnp.stack(each).all(axis=0)


class PixelsAndFeatures(NamedTuple):
    """An encoded image, and the image itself, which PointRend reads, too."""

    pixels: Float[Array, "b h w 3"]
    taps: ImageFeatures


Encoded = ImageFeatures | PixelsAndFeatures
"""An encoded image."""


class PreparedImage(NamedTuple):
    """An encoded image, and what else of it no sentence changes."""

    taps: ImageFeatures  # as far as no sentence changes them
    known: dict[str, jax.Array]  # what else is computed once for an image, by the network's names
    detail: Float[Array, "b h2 w2 d"] | None = None  # `PointRend.of_image`, if there is one


class Network(nn.Module):
    """A network with a backbone and a sentence encoder; a subclass makes masks of their features.

    A subclass has `setup`, which sets `backbone` and `text` by `make_backbone` and
    `make_text_encoder`, and the methods `prepare`, `refer` and `loss`. The top level of its
    parameters has the names of `train.lr_multipliers`, and `head` for an output layer that belongs
    to no part.

    Attributes:
      vocab_size: words known, with padding (0) and unknown (1); with BERT, word pieces.
      text_encoder: "gru", that of LTS, "lstm", that of CMPC, or "bert".
      embed_dim: size of a word vector.
      gru_features: GRU units per direction, of which f_text has twice as many, or the LSTM's.
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
      drop_path: stochastic depth in the backbone's last block, in training.
      dropout: BERT's, in training.
      dtype: of the computation; parameters, statistics and outputs are float32.
      remat: in training, keep little for the backward pass and compute it again there.
    """

    title: ClassVar[str] = ""  # name and source, for model cards

    vocab_size: int
    text_encoder: str = "gru"
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
    drop_path: float = 0.0
    dropout: float = 0.0
    dtype: Dtype = jnp.float32
    remat: bool = False

    # ---- What a subclass implements

    def prepare(self, image: Encoded) -> PreparedImage:
        """In evaluation, computes once for an image what `refer` would for each sentence."""
        raise NotImplementedError

    def refer(self, image: Encoded | PreparedImage, text: TextFeatures, *, train: bool) -> Outputs:
        """Makes one mask for each of B sentences.

        Args:
          image: of B images, or of K, each with B / K sentences, one behind the other.
          text: of the sentences.
          train: use the batch's own BatchNorm statistics.
        """
        raise NotImplementedError

    def loss(
        self,
        outputs: Outputs,
        truth4: Num[Array, "b h4 w4"],
        truth8: Num[Array, "b h8 w8"],
        location_weight: float,
        dice_weight: float = 0.0,
        location: LocationLoss = "bce",
        truth1: Num[Array, "b h w"] | None = None,
    ) -> Loss:
        """Compares what `refer` returned with the truth.

        Args:
          outputs: of the network.
          truth4: {0, 1}, `[B, H/4, W/4]`.
          truth8: {0, 1}, `[B, H/8, W/8]`.
          location_weight: of the losses of the heatmap, beside those of the mask.
          dice_weight: of Dice losses beside each cross-entropy; 0 has none.
          location: kind of the heatmap's loss, `train.location_loss`.
          truth1: {0, 1}, `[B, H, W]`, if `truth1` is among the truths of training.
        """
        raise NotImplementedError

    @property
    def shows_maps(self) -> bool:
        """Whether the locator leaves more to look at than its heatmap; see `refer_with_maps`."""
        return False

    @property
    def why_no_onnx(self) -> str:
        """What of it has no ONNX graph in `lts_jax.export`; "" if it can be exported as one."""
        return ""

    # ---- What all networks share

    @property
    def draws(self) -> bool:
        """Whether it needs random numbers in training."""
        return bool(self.drop_path or self.dropout)

    def make_backbone(self) -> nn.Module:
        """Makes the image encoder."""
        is_darknet = self.image_encoder == "darknet53"
        options = {"neck": self.neck, "conventions": self.backbone_conventions}
        return BACKBONES[self.image_encoder].make(
            self.backbone_width,
            self.backbone_stages,
            drop_path=self.drop_path,
            dtype=self.dtype,
            remat=self.remat,
            **(options if is_darknet else {}),
        )

    def make_text_encoder(self) -> nn.Module:
        """Makes the sentence encoder."""
        if self.text_encoder == "gru":
            return TextEncoder(self.vocab_size, self.embed_dim, self.gru_features, dtype=self.dtype)
        if self.text_encoder == "lstm":
            return LSTMEncoder(self.vocab_size, self.embed_dim, self.gru_features, dtype=self.dtype)
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

    def encode_image(self, image: Float[Array, "b h w 3"], *, train: bool) -> Encoded:
        """Encodes `[B, H, W, 3]` RGB in [0, 1], once however many sentences refer to it."""
        features: ImageFeatures = self.backbone(image, train=train)
        return features

    def encode_text(
        self, tokens: Int[Array, "b t"], lengths: Int[Array, " b"], *, train: bool = False
    ) -> TextFeatures:
        """Encodes ids int32 `[B, T]` with lengths int32 `[B]`."""
        features: TextFeatures = self.text(tokens, lengths, train=train)
        return features

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
