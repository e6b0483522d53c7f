"""A network with random parameters, for tests of exports."""

import jax
import numpy as np
import optax

from lts_jax.configs import mini_refcoco as mini_refcoco_config
from lts_jax.configs.fields import plain_config
from lts_jax.distributed.mesh import one_device
from lts_jax.experiment.experiment import Experiment
from lts_jax.experiment.restore import Trained
from lts_jax.state import train_state
from tests.lts_jax.helpers.drawn import draw_variables
from tests.lts_jax.helpers.tiny import TINY


def make_trained(words, **changes):
    """Returns a network with random parameters and masks with contrast; compiles nothing."""
    config = mini_refcoco_config.get_config()
    config.model.update(TINY)
    config.model.update(changes)
    config.data.image_size = 96
    experiment = Experiment(config, one_device(), list(words))
    shapes = jax.eval_shape(
        lambda: train_state.init_state(experiment.model, optax.adam(1.0), 0, 96, 15)
    )
    variables = {"params": shapes.params, "batch_stats": shapes.batch_stats}
    drawn = draw_variables(variables, mask_gain=2.5)
    state = train_state.TrainState(step=np.int32(7), **drawn, opt_state=())
    return Trained(experiment, state, 7, plain_config(config), {}, {})
