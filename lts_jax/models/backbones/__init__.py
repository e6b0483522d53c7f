"""The backbones by name. Each encodes an image at strides 8, 16 and 32."""

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
    """A backbone with its published sizes.

    Attributes:
      family: naming scheme of the tensors in its weight files.
      module: the network, which maps `[B, H, W, 3]` RGB in [0, 1] to `ImageFeatures`.
      width: channels of the first stage; for Darknet53, ResNet and EfficientNet, of the first
        convolution.
      stages: blocks in each stage.
      options: additional fields of the module.
      mean: mean of the input channels R, G, B in [0, 1].
      std: standard deviation of the input channels.
      epsilon: epsilon of the norm layers; for Darknet53 it depends on the conventions.
      drops_paths: whether the backbone supports stochastic depth.
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
        """Creates the module.

        Args:
          width: replaces the published width; 0 keeps it.
          stages: replaces the published stages; () keeps them.
          drop_path: stochastic depth rate of the last block.
          dtype: dtype of the computation.
          remat: in training, recompute activations in the backward pass to save memory.
          options: additional fields of the module.
        """
        if self.drops_paths:
            options["drop_path"] = drop_path
        elif drop_path:
            raise ValueError(
                f"model.drop_path={drop_path} must be 0: {self.family} has no stochastic depth"
            )
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
"""By `model.backbone`. `dilated`: all levels have stride 8, as in DeepLab and CMPC."""
