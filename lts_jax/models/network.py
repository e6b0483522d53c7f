"""The interface between networks and training, evaluation, inference and export.

docs/architecture.md describes how to add a network.
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
"""The loss to minimize, and all losses by name, including `loss`."""


class Outputs(NamedTuple):
    """Logits of a network, float32."""

    heatmap: (
        Float[Array, "b rounds h8 w8"] | None
    )  # H_mask, [B, rounds, H/8, W/8]; None without a locator
    mask: Float[Array, "b h4 w4"]  # P_mask, [B, H/4, W/4]; [B, H/8, W/8] without a segmenter;
    # with PointRend, in evaluation, [B, H, W]
    auxiliary: Float[Array, "b n h8 w8"] | None = None  # additional maps for the loss only
    points: Points | None = None  # in training with PointRend

    def finite(self) -> Bool[Array, " b"]:
        """Returns whether all logits of each sentence are finite."""
        maps = [x for x in (self.mask, self.heatmap) if x is not None]
        each = [jnp.isfinite(x).all(axis=tuple(range(1, x.ndim))) for x in maps]
        return jnp.stack(each).all(axis=0)


class PixelsAndFeatures(NamedTuple):
    """An encoded image, and the image itself, which PointRend also reads."""

    pixels: Float[Array, "b h w 3"]
    taps: ImageFeatures


Encoded = ImageFeatures | PixelsAndFeatures
"""The type of an encoded image."""


class PreparedImage(NamedTuple):
    """The sentence-independent features of an image."""

    taps: ImageFeatures  # image features, as far as they are independent of the sentence
    known: dict[str, jax.Array]  # other results to compute once per image, by network-specific name
    detail: Float[Array, "b h2 w2 d"] | None = None  # `PointRend.of_image`, with PointRend


class Network(nn.Module):
    """Base class of networks with a backbone and a sentence encoder, which predict masks.

    A subclass defines `setup`, which creates `backbone` and `text` with `make_backbone` and
    `make_text_encoder`, and the methods `prepare`, `refer` and `loss`. Its top-level parameters are
    named as in `train.lr_multipliers`, plus `head` for an output layer that belongs to none of
    these parts.

    Attributes:
      vocab_size: number of words, including padding (0) and unknown (1); with BERT, word pieces.
      text_encoder: "gru" (LTS), "lstm" (CMPC) or "bert".
      embed_dim: size of the word vectors.
      gru_features: units of the GRU per direction (f_text has twice as many), or of the LSTM.
      bert_hidden: hidden size of BERT, and size of f_text.
      bert_layers: number of BERT's layers.
      bert_heads: number of BERT's attention heads.
      bert_intermediate: size of BERT's MLPs.
      bert_positions: number of BERT's position embeddings.
      image_encoder: a name in `lts_jax.models.backbones.BACKBONES`.
      backbone_width: channels of the backbone's first stage; 0: the published value.
      backbone_stages: blocks per stage; (): the published values.
      backbone_conventions: slope, epsilon and image normalization of Darknet53.
      neck: add YOLOv3's six convolutions to the stride-32 features.
      drop_path: stochastic depth rate of the backbone's last block, in training.
      dropout: dropout rate of BERT, in training.
      dtype: dtype of the computation; parameters, statistics and outputs are float32.
      remat: in training, recompute activations in the backward pass to save memory.
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

    # ---- Implemented by subclasses

    def prepare(self, image: Encoded) -> PreparedImage:
        """In evaluation, computes the sentence-independent part of `refer` once per image."""
        raise NotImplementedError

    def refer(self, image: Encoded | PreparedImage, text: TextFeatures, *, train: bool) -> Outputs:
        """Predicts one mask for each of B sentences.

        Args:
          image: B images, or K images with B / K consecutive sentences each.
          text: features of the sentences.
          train: normalize by batch statistics.
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
        """Computes the loss of the outputs of `refer`.

        Args:
          outputs: outputs of the network.
          truth4: ground truth in {0, 1}, `[B, H/4, W/4]`.
          truth8: ground truth in {0, 1}, `[B, H/8, W/8]`.
          location_weight: weight of the heatmap's losses relative to the mask's.
          dice_weight: weight of the Dice losses added to each cross-entropy; 0: none.
          location: kind of the heatmap's loss, `train.location_loss`.
          truth1: ground truth in {0, 1}, `[B, H, W]`, for networks that need it.
        """
        raise NotImplementedError

    @property
    def shows_maps(self) -> bool:
        """Whether the locator has maps besides its heatmap; see `refer_with_maps`."""
        return False

    @property
    def why_no_onnx(self) -> str:
        """The setting that `lts_jax.export` does not support in ONNX; "" if supported."""
        return ""

    # ---- Shared by all networks

    @property
    def draws(self) -> bool:
        """Whether training needs random numbers."""
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
        """Encodes `[B, H, W, 3]` RGB in [0, 1], once for all sentences about an image."""
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
        """Segments `[B, H, W, 3]` images, or K images with B / K of the `[B, T]` sentences each."""
        return self.refer(
            self.encode_image(image, train=train),
            self.encode_text(tokens, lengths, train=train),
            train=train,
        )
