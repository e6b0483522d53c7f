"""An exponential moving average of the weights: what is trained and what is used are two copies."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Averaged(NamedTuple):
    """State of `average_weights`.

    Attributes:
      trained: the parameters that the gradients are taken at.
      inner: state of the optimizer.
      updates: their number so far, int32.
    """

    trained: Any
    inner: optax.OptState
    updates: jax.Array


def average_weights(
    optimizer: optax.GradientTransformation, decay: float
) -> optax.GradientTransformation:
    """Makes an optimizer whose parameters are the moving average of those that it trains.

    Gradients are to be taken at `trained_params`. Whoever evaluates, saves or exports the
    parameters uses the average. At first the decay is smaller, (1 + n) / (10 + n) after n updates,
    as an average over so few.
    """

    def init(params: optax.Params) -> Averaged:
        copied = jax.tree.map(jnp.copy, params)
        return Averaged(copied, optimizer.init(params), jnp.zeros((), jnp.int32))

    def update(
        gradients: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        assert isinstance(state, Averaged)
        updates, inner = optimizer.update(gradients, state.inner, state.trained)
        trained = optax.apply_updates(state.trained, updates)
        count = state.updates + 1
        kept = jnp.minimum(decay, (1 + count) / (10 + count))
        moves = jax.tree.map(lambda new, old: (1 - kept) * (new - old), trained, params)
        return moves, Averaged(trained, inner, count)

    return optax.GradientTransformation(init, update)


def trained_params(params: Any, opt_state: optax.OptState) -> Any:
    """Returns the parameters to take gradients at."""
    return opt_state.trained if isinstance(opt_state, Averaged) else params


def replace_trained(opt_state: optax.OptState, params: Any) -> optax.OptState:
    """Returns the state of an optimizer whose first parameters are replaced by others."""
    if not isinstance(opt_state, Averaged):
        return opt_state
    return opt_state._replace(trained=jax.tree.map(jnp.copy, params))
