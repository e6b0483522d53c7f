"""The complete CMPC network, with or without the segmenter of LTS (Table 3)."""

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from lts_jax.models.cmpc.comprehension import Level, Sentence, WordTypes
from lts_jax.models.cmpc.exchange import ConvLSTM, Exchange
from lts_jax.models.cmpc.layers import XAVIER, unit
from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.layers import Dtype, rematerialized
from lts_jax.models.locator import Prior, as_prior
from lts_jax.models.losses import dice_loss, segmentation_loss
from lts_jax.models.network import (
    Encoded,
    LocationLoss,
    Loss,
    Network,
    Outputs,
    PreparedImage,
)
from lts_jax.models.pointrend import double
from lts_jax.models.segmenter import Segmenter
from lts_jax.models.text_encoder import TextFeatures

_LEVEL_WEIGHT = 0.1  # weight of each level's loss; the response map has the rest of 1


class Comprehended(NamedTuple):
    """The results of comprehension at all levels."""

    levels: list[Float[Array, "b h w c"]]  # X_3, X_4, X_5, all at H/8
    sentence: Float[Array, "b d"]  # s
    scores: Float[Array, "b 3 h w"]  # logits of each level's response map


class Comprehension(nn.Module):
    """Word types, and progressive comprehension at each level of the backbone.

    Attributes:
      features: channels of V and of the graph nodes.
      fused_features: channels of X.
      dtype: dtype of the computation.
    """

    features: int
    fused_features: int
    dtype: Dtype = jnp.float32

    def setup(self) -> None:
        """Builds the levels, from the finest (`level3`) to the coarsest."""
        self.types = WordTypes(dtype=self.dtype)
        self.level3, self.level4, self.level5 = (
            Level(self.features, self.fused_features, dtype=self.dtype) for _ in range(3)
        )
        self.score3, self.score4, self.score5 = (_score(self.dtype) for _ in range(3))

    def of_image(self, image: ImageFeatures) -> ImageFeatures:
        """Computes the sentence-independent features of each level, see `Level.of_image`."""
        return ImageFeatures(
            self.level3.of_image(image.stride8),
            self.level4.of_image(image.stride16),
            self.level5.of_image(image.stride32),
        )

    def __call__(
        self, image: ImageFeatures, text: TextFeatures, *, train: bool, known: bool = False
    ) -> Comprehended:
        """Fuses the image features, all of one size, with the sentences.

        Args:
          image: image features, or the result of `of_image`.
          text: sentence features with unit word vectors.
          train: has no effect.
          known: `image` is the result of `of_image`.
        """
        heads = image if known else self.of_image(image)
        sentence = Sentence(text.words, text.valid, self.types(text.words))
        entities = sentence.entities()
        levels = [
            self.level3(heads.stride8, sentence, entities),
            self.level4(heads.stride16, sentence, entities),
            self.level5(heads.stride32, sentence, entities),
        ]
        heads_of_levels = (self.score3, self.score4, self.score5)
        scores = [head(x)[..., 0] for head, x in zip(heads_of_levels, levels, strict=True)]
        return Comprehended(levels, sentence.necessary(), jnp.stack(scores, axis=1))


class Response(nn.Module):
    """Rounds of exchange between the levels, a ConvLSTM over the levels, and the response map.

    Attributes:
      rounds: number of rounds, n of the CMPC paper.
      fused_features: channels of the fused features.
      dtype: dtype of the computation.
    """

    rounds: int
    fused_features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(
        self,
        levels: Sequence[Float[Array, "b h w c"]],
        sentence: Float[Array, "b d"],
        *,
        train: bool,
    ) -> tuple[Float[Array, "b h w f"], Float[Array, "b h w"]]:
        """Returns fused features `[B, H/8, W/8, F]` and the map's logits `[B, H/8, W/8]`."""
        for i in range(self.rounds):
            levels = Exchange(dtype=self.dtype, name=f"round{i}")(levels, sentence)
        fused: jax.Array = ConvLSTM(self.fused_features, dtype=self.dtype, name="lstm")(levels)
        return fused, _score(self.dtype, "score")(fused)[..., 0]


class CMPC(Network):
    """Cross-modal progressive comprehension. The defaults are the sizes of the authors' code.

    The backbone must be dilated, so that all three levels have stride 8. The response map is the
    heatmap and, without the segmenter, also the mask.

    Attributes:
      level_features: channels of each level's image features and of the graph nodes.
      fused_features: channels of each level after the graph, and of the fused features.
      exchange_rounds: rounds of exchange between the levels.
      segment: apply the segmenter of LTS to the fused features, with the response map as its prior
        (Table 3 of LTS).
      segmenter_features: channels of each ASPP branch.
      segmenter_rates: dilation rates of ASPP.
      prior: form of the response map that the segmenter receives: probabilities or logits.
    """

    title: ClassVar[str] = 'CMPC ("Cross-Modal Progressive Comprehension", Huang et al., CVPR 2020)'

    text_encoder: str = "lstm"
    gru_features: int = 1000
    image_encoder: str = "resnet101_dilated"
    backbone_width: int = 64
    backbone_stages: Sequence[int] = (3, 4, 23, 3)
    level_features: int = 1000
    fused_features: int = 500
    exchange_rounds: int = 3
    segment: bool = False
    segmenter_features: int = 256
    segmenter_rates: Sequence[int] = (6, 12, 18)
    prior: Prior = "probability"

    def setup(self) -> None:
        """Builds the parts; each is a subtree of the parameters."""
        if not self.image_encoder.endswith("_dilated"):
            raise ValueError(
                f"model.backbone={self.image_encoder!r} must be a dilated backbone for CMPC"
            )
        self.backbone = self.make_backbone()
        self.text = self.make_text_encoder()
        self.fusion = Comprehension(self.level_features, self.fused_features, dtype=self.dtype)
        self.locator = Response(self.exchange_rounds, self.fused_features, dtype=self.dtype)
        if self.segment:
            self.segmenter = Segmenter(
                self.segmenter_features, self.segmenter_rates, dtype=self.dtype
            )

    def encode_text(
        self, tokens: Int[Array, "b t"], lengths: Int[Array, " b"], *, train: bool = False
    ) -> TextFeatures:
        """Encodes ids int32 `[B, T]` with lengths int32 `[B]`; word vectors are normalized."""
        text = super().encode_text(tokens, lengths, train=train)
        return text._replace(words=unit(text.words))

    def prepare(self, image: Encoded) -> PreparedImage:
        """In evaluation, computes the sentence-independent part of `refer` once per image."""
        assert isinstance(image, ImageFeatures)
        return PreparedImage(self.fusion.of_image(image), {})

    def refer(self, image: Encoded | PreparedImage, text: TextFeatures, *, train: bool) -> Outputs:
        """Comprehends, exchanges features between levels and, with a segmenter, segments.

        Args:
          image: B images, or K images with B / K consecutive sentences each.
          text: features of the sentences.
          train: normalize by batch statistics, in the segmenter only.
        """
        run = rematerialized(self.remat and train)
        if isinstance(image, PreparedImage):
            comprehended = self.fusion(image.taps, text, train=train, known=True)
        else:
            comprehended = run(self.fusion, image, text, train=train)
        fused, score = run(self.locator, comprehended.levels, comprehended.sentence, train=train)
        mask = score = score.astype(jnp.float32)
        if self.segment:
            mask = run(self.segmenter, fused, as_prior(score, self.prior), train=train)
        return Outputs(
            score[:, None], mask.astype(jnp.float32), comprehended.scores.astype(jnp.float32)
        )

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
        """Computes L_CMPC = 0.7 L(response map) + 0.1 Σ L(level map), with L = `segmentation_loss`.

        The maps are upsampled to H/4 by bilinear interpolation. With the segmenter, L_CMPC replaces
        L_loc in Eq. 13 of LTS: L_seg + `location_weight` L_CMPC.
        """
        assert outputs.heatmap is not None and outputs.auxiliary is not None
        truth = truth4.astype(jnp.float32)
        response, *levels = _doubled(jnp.concatenate([outputs.heatmap, outputs.auxiliary], axis=1))
        losses = {
            "response_loss": segmentation_loss(response, truth),
            "level_loss": sum((segmentation_loss(x, truth) for x in levels), jnp.zeros(())),
        }
        loss = (1 - len(levels) * _LEVEL_WEIGHT) * losses["response_loss"]
        loss = loss + _LEVEL_WEIGHT * losses["level_loss"]
        if dice_weight:
            losses["response_dice_loss"] = dice_loss(response, truth)
            loss = loss + dice_weight * losses["response_dice_loss"]
        if self.segment:
            losses["segmentation_loss"] = segmentation_loss(outputs.mask, truth)
            loss = losses["segmentation_loss"] + location_weight * loss
            if dice_weight:
                losses["dice_loss"] = dice_loss(outputs.mask, truth)
                loss = loss + dice_weight * losses["dice_loss"]
        return loss, {"loss": loss, **losses}

    @property
    def why_no_onnx(self) -> str:
        """CMPC has no ONNX graph."""
        return "model.network=cmpc"


def _score(dtype: Dtype, name: str | None = None) -> nn.Conv:
    """Creates a 3×3 convolution to one channel."""
    return nn.Conv(1, (3, 3), kernel_init=XAVIER, dtype=dtype, name=name)


def _doubled(maps: Float[Array, "b n h w"]) -> list[Float[Array, "b 2*h 2*w"]]:
    """Returns each map, upsampled by a factor of two."""
    return [double(maps[:, i]) for i in range(maps.shape[1])]
