"""Random parameters without a compiled initializer, which takes longer than most tests."""

import jax
import jax.numpy as jnp
import numpy as np

from lts_jax.state.train_state import TrainState


def draw_variables(shapes, seed=0, mask_gain=1.0):
    """Draws variables by NumPy, so that features of each layer keep their scale.

    Args:
      shapes: parameters and statistics, by `jax.eval_shape`.
      seed: of the numbers.
      mask_gain: of the kernel of the segmenter's mask, for maps with contrast.
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
    """Draws a training state, with an optimizer that has not moved; see `draw_variables`."""
    drawn = draw_variables({"params": shapes.params, "batch_stats": shapes.batch_stats}, **options)
    zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes.opt_state)
    state = TrainState(step=np.int32(step), **drawn, opt_state=zeros)
    return jax.tree.map(
        lambda x, like: jax.device_put(jnp.asarray(x), like.sharding), state, shapes
    )
