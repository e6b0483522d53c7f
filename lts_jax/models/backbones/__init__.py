"""The backbones by name: each encodes an image at strides 8, 16 and 32."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from flax import linen as nn

from lts_jax.models.backbones.convnext import EPSILON as CONVNEXT_EPSILON
from lts_jax.models.backbones.convnext import ConvNeXt
from lts_jax.models.backbones.efficientnet import EPSILON as EFFICIENTNET_EPSILON
from lts_jax.models.backbones.efficientnet import INPUT as EFFICIENTNET_INPUT
from lts_jax.models.backbones.efficientnet import EfficientNetLite0
from lts_jax.models.backbones.resnet import ResNet
from lts_jax.models.backbones.swin import Swin
from lts_jax.models.darknet53 import Darknet53
from lts_jax.models.layers import EPSILON, IMAGENET, Dtype


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A backbone at its published size.

    Attributes:
      family: what names the tensors of its files.
      module: the network; it maps `[B, H, W, 3]` RGB in [0, 1] to `ImageFeatures`.
      width: the channels of its first stage; of Darknet53, ResNet and EfficientNet, those of the
        first convolution.
      stages: blocks in each stage.
      options: further fields of the module.
      mean: of its input, R, G, B in [0, 1].
      std: that the input is divided by.
      epsilon: of its norms; that of Darknet53 depends on its conventions.
      drops_paths: it has stochastic depth.
    """

    family: str
    module: Callable[..., nn.Module]
    width: int
    stages: Sequence[int]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    mean: Sequence[float] = IMAGENET[0]
    std: Sequence[float] = IMAGENET[1]
    epsilon: float = EPSILON
    drops_paths: bool = True

    def make(
        self,
        width: int = 0,
        stages: Sequence[int] = (),
        *,
        drop_path: float = 0.0,
        dtype: Dtype,
        remat: bool = False,
        **options: Any,
    ) -> nn.Module:
        """Makes the module.

        Args:
          width: instead of the published one; 0 keeps it.
          stages: instead of the published ones; () keeps them.
          drop_path: rate of stochastic depth of the last block.
          dtype: of the computation.
          remat: in training, keep little for the backward pass and compute it again there.
          options: further fields of this backbone's module.
        """
        if self.drops_paths:
            options["drop_path"] = drop_path
        elif drop_path:
            raise ValueError(f"{self.family} has no stochastic depth: drop_path must be 0")
        sizes = (width or self.width, tuple(stages) or self.stages)
        return self.module(*sizes, dtype=dtype, remat=remat, **self.options, **options)


_DARKNET53 = Backbone(
    "darknet53",
    Darknet53,
    32,
    (1, 2, 8, 8, 4),
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
    drops_paths=False,
)
_EFFICIENTNET_LITE0 = Backbone(
    "efficientnet",
    EfficientNetLite0,
    32,
    (1, 2, 2, 3, 3, 4, 1),
    mean=EFFICIENTNET_INPUT[0],
    std=EFFICIENTNET_INPUT[1],
    epsilon=EFFICIENTNET_EPSILON,
)
_CONVNEXT_TINY = Backbone("convnext", ConvNeXt, 96, (3, 3, 9, 3), epsilon=CONVNEXT_EPSILON)
_SWIN_TINY = Backbone("swin", Swin, 96, (2, 2, 6, 2), {"window": 7})
_SWIN_BASE = dataclasses.replace(_SWIN_TINY, width=128, stages=(2, 2, 18, 2))
_RESNET50 = Backbone("resnet", ResNet, 64, (3, 4, 6, 3), drops_paths=False)
_RESNET101 = dataclasses.replace(_RESNET50, stages=(3, 4, 23, 3))

BACKBONES = {
    "darknet53": _DARKNET53,
    "efficientnet_lite0": _EFFICIENTNET_LITE0,
    "convnext_tiny": _CONVNEXT_TINY,
    "convnext_small": dataclasses.replace(_CONVNEXT_TINY, stages=(3, 3, 27, 3)),
    "convnext_base": dataclasses.replace(_CONVNEXT_TINY, width=128, stages=(3, 3, 27, 3)),
    "swin_tiny": _SWIN_TINY,
    "swin_tiny_window12": dataclasses.replace(_SWIN_TINY, options={"window": 12}),
    "swin_base": _SWIN_BASE,
    "swin_base_window12": dataclasses.replace(_SWIN_BASE, options={"window": 12}),
    "resnet50": _RESNET50,
    "resnet50_dilated": dataclasses.replace(_RESNET50, options={"dilated": True}),
    "resnet101": _RESNET101,
    "resnet101_dilated": dataclasses.replace(_RESNET101, options={"dilated": True}),
}
"""Of `model.backbone`. `dilated`: all taps are at stride 8, as in DeepLab and CMPC."""
