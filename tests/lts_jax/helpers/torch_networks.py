"""PyTorch networks of other projects with random weights, for comparisons."""

import numpy as np
import torch
from torch import nn

IMAGENET = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)


def randomized(model, seed=0):
    """Draws all parameters and statistics, with kernels that keep the scale of the features."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                inputs = parameter[0].numel() if parameter.ndim == 4 else parameter.shape[-1]
                parameter.normal_(0, inputs**-0.5)
            elif name.endswith("bias"):
                parameter.normal_(0, 0.3)
            else:
                parameter.uniform_(0.5, 1.5)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.3)
                module.running_var.uniform_(0.5, 2.0)
    return model.eval()


def normalized(image, mean=IMAGENET[0], std=IMAGENET[1]):
    """Normalizes `[B, H, W, 3]` in [0, 1] for ImageNet networks; returns `[B, 3, H, W]`."""
    normal = np.asarray((image - mean) / std, np.float32)
    return torch.tensor(normal.transpose(0, 3, 1, 2))


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


def make(name, width=0, stages=()):
    """Returns Hugging Face's backbone for a name in `BACKBONES`, with the features' norms."""
    import transformers

    from lts_jax.models.backbones import BACKBONES

    ours = BACKBONES[name]
    width, stages = width or ours.width, list(stages or ours.stages)
    taps = {"out_features": ["stage2", "stage3", "stage4"]}
    if ours.family == "convnext":
        sizes = [width * 2**i for i in range(4)]
        config = transformers.ConvNextConfig(hidden_sizes=sizes, depths=stages, **taps)
        return transformers.ConvNextBackbone(config)
    if ours.family == "swin":
        heads = [max(1, width * 2**i // 32) for i in range(4)]
        config = transformers.SwinConfig(
            embed_dim=width,
            depths=stages,
            num_heads=heads,
            window_size=ours.options["window"],
            **taps,
        )
        return transformers.SwinBackbone(config)
    sizes = [4 * width * 2**i for i in range(4)]
    config = transformers.ResNetConfig(
        embedding_size=width, hidden_sizes=sizes, depths=stages, **taps
    )
    return transformers.ResNetBackbone(config)


def dilate(resnet):
    """Dilates the last two stages of a ResNet to stride 8, as torchvision and DeepLab do."""
    for i, dilation in ((2, 2), (3, 4)):
        for j, layer in enumerate(resnet.encoder.stages[i].layers):
            spatial = layer.layer[1].convolution
            spatial.stride = (1, 1)
            rate = dilation if j else dilation // 2
            spatial.dilation = spatial.padding = (rate, rate)
            if not j:
                layer.shortcut.convolution.stride = (1, 1)
    return resnet
