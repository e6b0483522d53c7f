"""Exponential moving average (EMA) of the weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Averaged(NamedTuple):
    """State of `average_weights`.

    Attributes:
      trained: the raw parameters, at which gradients are taken.
      inner: state of the wrapped optimizer.
      updates: number of updates so far, int32.
    """

    trained: Any
    inner: optax.OptState
    updates: jax.Array


def average_weights(
    optimizer: optax.GradientTransformation, decay: float
) -> optax.GradientTransformation:
    """Wraps an optimizer so that the parameters are the EMA of the trained ones.

    Take gradients at `trained_params`; evaluate, save and export the parameters, which are the
    average. The decay is at most (1 + n) / (10 + n) after n updates, so that early averages forget
    the initialization.
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
    """Returns the parameters at which to take gradients."""
    return opt_state.trained if isinstance(opt_state, Averaged) else params


def replace_trained(opt_state: optax.OptState, params: Any) -> optax.OptState:
    """Returns the optimizer state with its trained parameters replaced by a copy of `params`."""
    if not isinstance(opt_state, Averaged):
        return opt_state
    return opt_state._replace(trained=jax.tree.map(jnp.copy, params))
