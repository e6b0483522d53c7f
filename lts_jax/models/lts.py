"""The complete LTS network (Figure 2)."""

from collections.abc import Sequence
from typing import ClassVar, Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num

from lts_jax.models.attention import CellAttention
from lts_jax.models.darknet53 import ImageFeatures
from lts_jax.models.fusion import Fusion
from lts_jax.models.layers import for_sentences, rematerialized
from lts_jax.models.locator import LOCATORS, Locate, Locator, Prior, as_prior
from lts_jax.models.losses import total_loss
from lts_jax.models.network import (
    Encoded,
    LocationLoss,
    Loss,
    Network,
    Outputs,
    PixelsAndFeatures,
    PreparedImage,
)
from lts_jax.models.pointrend import PointRend
from lts_jax.models.segmenter import Segmenter
from lts_jax.models.text_encoder import TextFeatures


class LTS(Network):
    """Locate then Segment. The defaults are the paper's sizes.

    Attributes:
      fuse: False omits the sentence from the fusion.
      fused_features: channels of F_m1, F_m2 and F_m3 (d_k of Eq. 8).
      coordinates: append each cell's coordinates to the fusion's input.
      attention_layers: number of attention layers over the cells of F_m3's coarse half.
      attention_words: cells also attend to words in these layers.
      locate: kind of locator, or "none".
      rounds: rounds of the locator, n of Table 5.
      segment: False uses the locator's last map as the mask or, without a locator, a 1×1
        convolution of F_m3.
      segmenter_features: channels of each ASPP branch.
      segmenter_rates: dilation rates of ASPP.
      prior: form of the heatmap that the segmenter and the locator's next round receive:
        probabilities or logits.
      refine: "pointrend" recomputes the mask at uncertain points, up to the input's resolution.
      refine_points: points per refinement step, see `PointRend`.
    """

    title: ClassVar[str] = 'LTS ("Locate then Segment", Jing et al., CVPR 2021)'

    fuse: bool = True
    fused_features: int = 1024
    coordinates: bool = False
    attention_layers: int = 0
    attention_words: bool = False
    locate: Locate = "filter"
    rounds: int = 1
    segment: bool = True
    segmenter_features: int = 256
    segmenter_rates: Sequence[int] = (6, 12, 18)
    prior: Prior = "probability"
    refine: Literal["none", "pointrend"] = "none"
    refine_points: int = 4096

    def setup(self) -> None:
        """Builds the parts; each is a subtree of the parameters."""
        if self.prior not in ("probability", "logits"):
            raise ValueError(f"model.prior={self.prior!r} must be 'probability' or 'logits'")
        if self.locate not in (*LOCATORS, "none"):
            raise ValueError(
                f"model.locate={self.locate!r} must be one of {', '.join(LOCATORS)}, none"
            )
        if self.locate == "none" and not self.fuse:
            raise ValueError(
                "model.fuse=False and model.locate='none': the network would ignore the sentence; "
                "enable one of them"
            )
        if self.refine != "none" and not self.segment:
            raise ValueError(f"model.refine={self.refine!r} requires model.segment=True")
        self.backbone = self.make_backbone()
        self.text = self.make_text_encoder()
        self.fusion = Fusion(self.fused_features, self.fuse, self.coordinates, dtype=self.dtype)
        if self.attention_layers:
            self.attention = CellAttention(
                self.attention_layers, self.attention_words, dtype=self.dtype
            )
        if self.locate != "none":
            self.locator = Locator(self.locate, self.rounds, self.prior, dtype=self.dtype)
        if self.segment:
            self.segmenter = Segmenter(
                self.segmenter_features, self.segmenter_rates, dtype=self.dtype
            )
        elif self.locate == "none":
            self.head = nn.Dense(1, dtype=self.dtype)
        if self.refine == "pointrend":
            self.pointrend = PointRend(
                self.segmenter_features, self.refine_points, dtype=self.dtype
            )

    def encode_image(self, image: Float[Array, "b h w 3"], *, train: bool) -> Encoded:
        """Encodes `[B, H, W, 3]` RGB in [0, 1], once for all sentences about an image."""
        features: ImageFeatures = self.backbone(image, train=train)
        return features if self.refine == "none" else PixelsAndFeatures(image, features)

    def prepare(self, image: Encoded) -> PreparedImage:
        """In evaluation, computes the sentence-independent part of `refer` once per image."""
        image, detail = self._detail(image, train=False)
        taps = self.fusion.of_image(image, train=False)
        known = self.segmenter.of_image(taps.stride8) if self.segment else {}
        return PreparedImage(taps, known, detail)

    def _detail(
        self, image: Encoded, *, train: bool
    ) -> tuple[ImageFeatures, Float[Array, "b h2 w2 d"] | None]:
        if not isinstance(image, PixelsAndFeatures):
            return image, None
        return image.taps, self.pointrend.of_image(image.pixels, train=train)

    def refer(
        self,
        image: Encoded | PreparedImage,
        text: TextFeatures,
        *,
        train: bool,
    ) -> Outputs:
        """Fuses, locates and segments. Returns one mask for each of B sentences.

        Args:
          image: B images, or K images with B / K consecutive sentences each.
          text: features of the sentences.
          train: normalize by batch statistics.
        """
        run = rematerialized(self.remat and train)
        if isinstance(image, PreparedImage):
            features = self.fusion(image.taps, text.sentence, train=train, known=True)
            known, detail = image.known, image.detail
        else:
            taps, detail = self._detail(image, train=train)
            features, known = run(self.fusion, taps, text.sentence, train=train), {}
        if self.attention_layers:
            coarse = for_sentences(features.coarse, text.sentence.shape[0])
            coarse = run(self.attention, coarse, text, train=train)
            features = features._replace(coarse=coarse)
        fused = for_sentences(features.merge(), text.sentence.shape[0])
        heatmap = prior = points = None
        if self.locate != "none":
            heatmap = self.locator(fused, text, train=train).astype(jnp.float32)
            prior = as_prior(heatmap[:, -1], self.prior)
        if detail is not None:
            mask, seen = run(
                *(self.segmenter, features, prior, known),
                train=train,
                method="mask_and_features",
            )
            if train:
                points = self.pointrend.train_points(mask, seen, detail, self.make_rng("dropout"))
            else:
                mask = self.pointrend(mask, seen, detail)
        elif self.segment:
            mask = run(self.segmenter, features, prior, known, train=train)
        elif heatmap is not None:
            mask = heatmap[:, -1]
        else:
            mask = self.head(fused)[..., 0]
        return Outputs(heatmap, mask.astype(jnp.float32), points=points)

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
        """Computes L (Eq. 13); see `lts_jax.models.losses.total_loss`."""
        return total_loss(outputs, truth4, truth8, location_weight, dice_weight, location, truth1)

    @property
    def draws(self) -> bool:
        """True with PointRend, which samples random points in training."""
        return super().draws or self.refine != "none"

    @property
    def shows_maps(self) -> bool:
        """True for locators with word responses or attention weights."""
        return self.locate in ("word_filter", "transformer")

    @property
    def why_no_onnx(self) -> str:
        """Names the LSTM, or a locator other than the filters; these have no ONNX graph."""
        if self.text_encoder == "lstm":
            return "model.text=lstm"
        known = self.locate in ("filter", "word_filter", "none")
        return "" if known else f"model.locate={self.locate}"
