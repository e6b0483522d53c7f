"""BatchNorm and LeakyReLU with a backward pass that reads the large arrays twice.

Training is bound by memory traffic on GPUs and TPUs. The gradient that autodiff derives writes the
gradient behind the activation, and reads its inputs in three passes: the two sums, one after the
other, and the result. `normalize_activate` keeps the input and the batch's statistics alone, and
needs two passes: one for both sums, and one for the result.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class BatchNormAct(nn.Module):
    """LeakyReLU of `flax.linen.BatchNorm`, with its parameters and running statistics.

    Attributes:
      slope: of LeakyReLU, for negative inputs.
      epsilon: added to the variance.
      momentum: of the running statistics.
      dtype: of the result; statistics are computed in float32.
    """

    slope: float
    epsilon: float
    momentum: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalizes `[B, H, W, C]` per channel by the batch's statistics, or the running ones."""
        features = x.shape[-1]
        mean = self.variable("batch_stats", "mean", jnp.zeros, (features,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (features,), jnp.float32)
        scale = self.param("scale", nn.initializers.ones, (features,), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (features,), jnp.float32)
        if not train:
            rate = scale * lax.rsqrt(var.value + self.epsilon)
            return _activate(_affine(x, mean.value, rate, bias).astype(self.dtype), self.slope)
        y, batch_mean, batch_var = normalize_activate(
            x, scale, bias, self.epsilon, self.slope, self.dtype
        )
        if not self.is_initializing():
            kept = self.momentum
            mean.value = kept * mean.value + (1 - kept) * batch_mean
            var.value = kept * var.value + (1 - kept) * batch_var
        return y


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def normalize_activate(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, slope: float, dtype: Any
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns LeakyReLU of the normalized input, and mean and biased variance of each channel.

    The statistics have no gradient.

    Args:
      x: `[B, H, W, C]`.
      scale: `[C]`.
      bias: `[C]`.
      epsilon: added to the variance.
      slope: of LeakyReLU, for negative inputs; positive.
      dtype: of the result.
    """
    outputs: tuple[jax.Array, jax.Array, jax.Array] = _forward(
        x, scale, bias, epsilon, slope, dtype
    )[0]
    return outputs


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, slope: float, dtype: Any
) -> Any:
    # In one pass, as Flax computes them. Rounding may make the difference negative.
    wide, axes = x.astype(jnp.float32), (0, 1, 2)
    mean = wide.mean(axes)
    var = jnp.maximum(0.0, lax.square(wide).mean(axes) - lax.square(mean))
    inverse = lax.rsqrt(var + epsilon)
    z = _affine(x, mean, scale * inverse, bias).astype(dtype)
    return (_activate(z, slope), mean, var), (x, scale, bias, mean, inverse)


def _backward(epsilon: float, slope: float, dtype: Any, saved: Any, gradients: Any) -> Any:
    x, scale, bias, mean, inverse = saved
    gradient, axes, n = gradients[0], (0, 1, 2), x.size // x.shape[-1]
    # XLA computes what looks the same once, and keeps it: the sign of each number, from the forward
    # pass to the backward pass and from the sums to the result. Behind a barrier nothing does.
    mean, inverse = lax.optimization_barrier((mean, inverse))
    dz = _of_normalized(x, mean, scale * inverse, bias, gradient, slope)
    centred = x.astype(jnp.float32) - mean
    dbias, dscale = dz.sum(axes), (dz * centred).sum(axes) * inverse
    mean, inverse, dbias, dscale = lax.optimization_barrier((mean, inverse, dbias, dscale))
    dz = _of_normalized(x, mean, scale * inverse, bias, gradient, slope)
    centred = x.astype(jnp.float32) - mean
    dx = scale * inverse * (dz - dbias / n - centred * (inverse * dscale / n))
    return dx.astype(x.dtype), dscale, dbias


def _of_normalized(
    x: jax.Array, mean: jax.Array, rate: jax.Array, bias: jax.Array, dy: jax.Array, slope: float
) -> jax.Array:
    """The gradient in front of LeakyReLU, float32."""
    dy = dy.astype(jnp.float32)
    return jnp.where(_affine(x, mean, rate, bias) >= 0, dy, slope * dy)


normalize_activate.defvjp(_forward, _backward)


def _affine(x: jax.Array, mean: jax.Array, rate: jax.Array, bias: jax.Array) -> jax.Array:
    return (x.astype(jnp.float32) - mean) * rate + bias


def _activate(z: jax.Array, slope: float) -> jax.Array:
    return jnp.where(z >= 0, z, slope * z)
