"""Layers that several parts of the network share."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from lts_jax.models.batch_norm import BatchNormAct
from lts_jax.models.convolution import convolve

Dtype = Any

NEGATIVE_SLOPE = 0.1
EPSILON = 1e-5

leaky_relu = functools.partial(nn.leaky_relu, negative_slope=NEGATIVE_SLOPE)
"""The activation g of Eq. 5 and 7, also that of Darknet."""

batch_norm_act = functools.partial(
    BatchNormAct, slope=NEGATIVE_SLOPE, epsilon=EPSILON, momentum=0.9
)
"""Darknet's BatchNorm, then g; momentum 0.9 is called 0.1 in PyTorch."""


IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of ImageNet pixels: R, G, B in [0, 1]."""


def normalize(
    image: Float[Array, "b h w 3"], mean: Sequence[float], std: Sequence[float]
) -> Float[Array, "b h w 3"]:
    """Subtracts the mean from RGB in [0, 1] and divides by the standard deviation.

    Raises:
      ValueError: the image is not `[B, H, W, 3]` with H and W multiples of 32.
    """
    _, h, w, c = image.shape
    if c != 3 or h % 32 or w % 32:
        raise ValueError(
            "images must have shape [B, H, W, 3] with H and W multiples of 32, but the shape is "
            f"{image.shape}"
        )
    if not any(mean) and set(std) == {1}:
        return image
    return (image - jnp.array(mean, image.dtype)) / jnp.array(std, image.dtype)


class ConvNormAct(nn.Module):
    """Convolution without bias → BatchNorm → LeakyReLU, or another activation.

    Attributes:
      features: output channels.
      kernel: side of the square kernel, odd.
      stride: 1 or 2.
      dilation: dilation rate.
      dtype: dtype of the computation; parameters and statistics stay float32.
      negative_slope: slope of LeakyReLU for negative inputs.
      epsilon: added to the variance by BatchNorm.
      activation: replaces LeakyReLU.
      same: use TensorFlow's "SAME" padding, which differs from PyTorch's at stride 2.
    """

    features: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    dtype: Dtype = jnp.float32
    negative_slope: float = NEGATIVE_SLOPE
    epsilon: float = EPSILON
    activation: Callable[[jax.Array], jax.Array] | None = None
    same: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Maps `[B, H, W, C]` to `[B, H/stride, W/stride, features]`."""
        if self.kernel == 1:
            if self.stride > 1:
                x = x[:, :: self.stride, :: self.stride]
            # Equivalent; XLA's CPU matrix product is faster than its 1×1 convolution.
            x = nn.Dense(self.features, use_bias=False, dtype=self.dtype, name="conv")(x)
        else:
            # Darknet and PyTorch pad both sides; TensorFlow pads one side at stride 2.
            pad = self.dilation * (self.kernel // 2)
            x = nn.Conv(
                self.features,
                (self.kernel, self.kernel),
                strides=self.stride,
                padding="SAME" if self.same else ((pad, pad), (pad, pad)),
                kernel_dilation=self.dilation,
                use_bias=False,
                dtype=self.dtype,
                conv_general_dilated=None if self.same else convolve,
                name="conv",
            )(x)
        return norm_act(
            x,
            train=train,
            dtype=self.dtype,
            negative_slope=self.negative_slope,
            epsilon=self.epsilon,
            activation=self.activation,
        )


def norm_act(
    x: jax.Array,
    *,
    train: bool,
    dtype: Dtype,
    name: str = "norm",
    negative_slope: float = NEGATIVE_SLOPE,
    epsilon: float = EPSILON,
    activation: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    """Applies the calling module's BatchNorm named `name`, then LeakyReLU or another activation.

    Only x and the batch sums are stored for the backward pass, which recomputes the rest. Otherwise
    BatchNorm would store another copy of x, in float32 even if the network computes in bfloat16.
    """
    if activation is None:
        leaky = batch_norm_act(slope=negative_slope, epsilon=epsilon, dtype=dtype, name=name)
        y: jax.Array = leaky(x, train=train)
        return y

    def call(norm: nn.Module, x: jax.Array) -> jax.Array:
        return activation(norm(x))

    norm = nn.BatchNorm(
        use_running_average=not train,
        momentum=0.9,  # 0.1 in PyTorch
        epsilon=epsilon,
        dtype=dtype,
        name=name,
    )
    return (nn.remat(call, policy=is_sum) if train else call)(norm, x)


def is_sum(primitive: Any, *_: Any, **__: Any) -> bool:
    """Policy of `nn.remat` that stores only the sums over the batch."""
    return bool(primitive.name == "reduce_sum")


class ConvTranspose2x(nn.Module):
    """Transposed convolution (kernel 4×4, stride 2, padding 1, no bias) that doubles the size.

    Equals `torch.nn.ConvTranspose2d(kernel_size=4, stride=2, padding=1, bias=False)`.
    """

    features: int
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Maps `[B, H, W, C]` to `[B, 2H, 2W, features]`."""
        c = x.shape[-1]
        # Each output pixel sums 2×2 of the 4×4 taps, so the fan-in is 4C.
        init = nn.initializers.normal((4 * c) ** -0.5)
        kernel = self.param("kernel", init, (4, 4, c, self.features))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        y: jax.Array = lax.platform_dependent(x, kernel, cpu=_doubled_by_phases, default=_doubled)
        return y


@jax.custom_vjp
def _doubled(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Implements the definition: the gradient of the convolution that halves the size.

    The gradients then also have a form for which cuDNN has kernels.
    """
    b, h, w, _ = x.shape
    y = jax.ShapeDtypeStruct((b, 2 * h, 2 * w, kernel.shape[-1]), x.dtype)
    doubled: jax.Array = jax.linear_transpose(lambda y: _halved(y, kernel), y)(x)[0]
    return doubled


def _doubled_backward(saved: Any, dy: jax.Array) -> Any:
    x, kernel = saved
    of_kernel = jax.linear_transpose(lambda k: _halved(dy, k), kernel)
    return _halved(dy, kernel), of_kernel(x)[0]


_doubled.defvjp(lambda x, kernel: (_doubled(x, kernel), (x, kernel)), _doubled_backward)


def _halved(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves `[B, 2H, 2W, F]` with `[4, 4, C, F]` at stride 2 to `[B, H, W, C]`."""
    return lax.conv_general_dilated(
        y, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWOI", "NHWC")
    )


def _doubled_by_phases(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes the same on CPUs, where XLA takes twenty times as long for `_doubled`'s gradient.

    The four output phases are 2×2 convolutions of the same padded input (output row 2m reads input
    rows m-1 and m through taps 3 and 1, row 2m+1 reads m and m+1 through 2 and 0), computed as one
    matrix product and interleaved.
    """
    b, h, w, c = x.shape
    f = kernel.shape[-1]
    # In reverse order, the taps 3 2 1 0 of one axis are ordered by [tap, phase].
    kernel = kernel[::-1, ::-1].reshape(2, 2, 2, 2, c, f)
    kernel = kernel.transpose(0, 2, 4, 1, 3, 5).reshape(4 * c, 4 * f)
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    patches = [x[:, i : i + h + 1, j : j + w + 1] for i in (0, 1) for j in (0, 1)]
    phases = jnp.split(jnp.concatenate(patches, axis=-1) @ kernel, 4, axis=-1)
    rows = [
        jnp.stack([phases[2 * i + j][:, i : i + h, j : j + w] for j in (0, 1)], axis=3)
        for i in (0, 1)
    ]
    return jnp.stack(rows, axis=2).reshape(b, 2 * h, 2 * w, f)


def rematerialized(active: bool) -> Callable[..., Any]:
    """Returns `run(module, *args, train=…)`, which calls the module, or one of its methods.

    If active, only the arguments are stored for the backward pass, which recomputes the rest
    (Chen et al., 2016). The parameter names stay the same.
    """

    def run(module: nn.Module, *args: Any, train: bool, method: str = "__call__") -> Any:
        def call(module: Any, *args: Any) -> Any:
            return getattr(module, method)(*args, train=train)

        return (nn.remat(call) if active else call)(module, *args)

    return run


def for_sentences(x: jax.Array, sentences: int) -> jax.Array:
    """Repeats features of K images for their sentences: `[K, …]` to `[sentences, …]`.

    Each image has `sentences` / K consecutive sentences.

    Raises:
      ValueError: the number of sentences is not a multiple of K.
    """
    images = x.shape[0]  # not len(x): the batch size is symbolic during export
    if images == sentences:
        return x
    if sentences % images:
        raise ValueError(
            f"the number of sentences ({sentences}) must be a multiple of the number of images "
            f"({images})"
        )
    return jnp.repeat(x, sentences // images, axis=0)


def upsample_nearest(x: jax.Array) -> jax.Array:
    """Upsamples by nearest neighbor (Eq. 6): `[B, H, W, C]` to `[B, 2H, 2W, C]`."""
    b, h, w, c = x.shape
    x = jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c))
    return x.reshape(b, 2 * h, 2 * w, c)
