"""BatchNorm with LeakyReLU, whose backward pass reads the large arrays only twice.

Training is memory-bound on GPUs and TPUs. The backward pass of autodiff stores the gradient before
the activation, and reads its inputs in three passes: one for each of the two sums, and one for the
result. `normalize_activate` keeps only the input and the batch statistics, and needs two passes:
one for both sums, and one for the result.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax


class BatchNormAct(nn.Module):
    """LeakyReLU(`flax.linen.BatchNorm`), with the same parameters and running statistics.

    Attributes:
      slope: slope of LeakyReLU for negative inputs.
      epsilon: added to the variance.
      momentum: momentum of the running statistics.
      dtype: dtype of the result; statistics are computed in float32.
    """

    slope: float
    epsilon: float
    momentum: float
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        """Normalizes the channels of `[B, H, W, C]` by batch or running statistics."""
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
    """Returns LeakyReLU of the normalized input, and each channel's mean and biased variance.

    No gradient flows through the returned statistics.

    Args:
      x: `[B, H, W, C]`.
      scale: `[C]`.
      bias: `[C]`.
      epsilon: added to the variance.
      slope: slope of LeakyReLU for negative inputs; must be positive.
      dtype: dtype of the result.
    """
    outputs: tuple[jax.Array, jax.Array, jax.Array] = _forward(
        x, scale, bias, epsilon, slope, dtype
    )[0]
    return outputs


def _forward(
    x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float, slope: float, dtype: Any
) -> Any:
    # Computed in one pass, as in Flax. Rounding may make the difference negative.
    wide, axes = x.astype(jnp.float32), (0, 1, 2)
    mean = wide.mean(axes)
    var = jnp.maximum(0.0, lax.square(wide).mean(axes) - lax.square(mean))
    inverse = lax.rsqrt(var + epsilon)
    z = _affine(x, mean, scale * inverse, bias).astype(dtype)
    return (_activate(z, slope), mean, var), (x, scale, bias, mean, inverse)


def _backward(epsilon: float, slope: float, dtype: Any, saved: Any, gradients: Any) -> Any:
    x, scale, bias, mean, inverse = saved
    gradient, axes, n = gradients[0], (0, 1, 2), x.size // x.shape[-1]
    # XLA merges identical computations and stores the result: here the sign of each number, between
    # the forward and backward passes, and between the sums and the result. Barriers prevent this.
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
    """Returns the gradient with respect to LeakyReLU's input, float32."""
    dy = dy.astype(jnp.float32)
    return jnp.where(_affine(x, mean, rate, bias) >= 0, dy, slope * dy)


normalize_activate.defvjp(_forward, _backward)


def _affine(x: jax.Array, mean: jax.Array, rate: jax.Array, bias: jax.Array) -> jax.Array:
    return (x.astype(jnp.float32) - mean) * rate + bias


def _activate(z: jax.Array, slope: float) -> jax.Array:
    return jnp.where(z >= 0, z, slope * z)
