"""Random parameters from NumPy: compiling an initializer takes longer than most tests."""

import jax
import jax.numpy as jnp
import numpy as np

from lts_jax.state.train_state import TrainState


def draw_variables(shapes, seed=0, mask_gain=1.0):
    """Draws variables with NumPy, scaled so that the features of each layer keep their scale.

    Args:
      shapes: of parameters and statistics, from `jax.eval_shape`.
      seed: of the random numbers.
      mask_gain: factor of the kernel of the segmenter's mask, for masks with contrast.
    """
    rng = np.random.default_rng(seed)

    def draw(path, x):
        name = path[-1].key
        if name in ("scale", "var"):
            values = rng.uniform(0.5, 2, x.shape)
        elif name in ("bias", "mean"):
            values = rng.normal(0, 0.3, x.shape)
        else:
            gain = mask_gain if "segmenter" in str(path) and "mask" in str(path) else 1.0
            values = rng.normal(0, gain * np.prod(x.shape[:-1]) ** -0.5, x.shape)
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, shapes)


def draw_state(shapes, step=0, **options):
    """Draws a training state with a new optimizer state; see `draw_variables`."""
    drawn = draw_variables({"params": shapes.params, "batch_stats": shapes.batch_stats}, **options)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes.opt_state)
    state = TrainState(step=np.int32(step), **drawn, opt_state=zeros)
    return jax.tree.map(
        lambda x, like: jax.device_put(jnp.asarray(x), like.sharding), state, shapes
    )
