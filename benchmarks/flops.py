"""Counts the floating-point operations of a JAX function without running it.

A multiply-add counts as two operations. Only matrix products and convolutions are counted: in a
convolutional network, all others are below one percent, and peak rates of chips do not include
them. As in XLA's analysis, kernel taps on padding or between the elements of a dilated input do not
count.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jax.interpreters.partial_eval import dce_jaxpr


def count(function: Callable[..., Any], *args: Any) -> int:
    """Returns the operations of one call.

    Args:
      function: a function that JAX can trace.
      args: arrays or `jax.ShapeDtypeStruct`s.
    """
    program = jax.make_jaxpr(function)(*args).jaxpr
    # Like XLA, remove unused computations, such as the gradient with respect to the pixels.
    needed, _ = dce_jaxpr(program, [True] * len(program.outvars))
    return _of_program(needed)


def _of_program(program: Jaxpr) -> int:
    return sum(_of_step(step) for step in program.eqns)


def _of_step(step: JaxprEqn) -> int:
    name = step.primitive.name
    if name == "dot_general":
        return _of_product(step)
    if name == "conv_general_dilated":
        return _of_convolution(step)
    if name == "while":
        inside = _of_program(step.params["body_jaxpr"].jaxpr)
        if inside:
            raise ValueError("cannot count a while loop: its length is unknown before it runs")
        return 0
    times = step.params["length"] if name == "scan" else 1
    if name in ("cond", "platform_index"):
        return max((_of_program(p) for p in _programs(step.params)), default=0)
    return times * sum(_of_program(p) for p in _programs(step.params))


def _programs(params: dict[str, Any]) -> Iterator[Jaxpr]:
    """Yields the programs inside a scan, a remat, a nested jit or a custom derivative."""
    for name, value in params.items():
        if name in ("fwd_jaxpr_thunk", "bwd"):  # unused parts of a custom derivative
            continue
        for item in value if isinstance(value, tuple | list) else (value,):
            if isinstance(item, ClosedJaxpr):
                yield item.jaxpr
            elif isinstance(item, Jaxpr):
                yield item


def _of_product(step: JaxprEqn) -> int:
    (contracted, _), _ = step.params["dimension_numbers"]
    left = _shape(step.invars[0])
    return 2 * math.prod(_shape(step.outvars[0])) * math.prod(left[d] for d in contracted)


def _of_convolution(step: JaxprEqn) -> int:
    params = step.params
    numbers = params["dimension_numbers"]
    left, kernel = map(_shape, step.invars)
    out = _shape(step.outvars[0])
    pairs = 1
    for axis in range(len(out) - 2):
        pairs *= _pairs(
            size=left[numbers.lhs_spec[2 + axis]],
            taps=kernel[numbers.rhs_spec[2 + axis]],
            out=out[numbers.out_spec[2 + axis]],
            stride=params["window_strides"][axis],
            low=params["padding"][axis][0],
            between=params["lhs_dilation"][axis],
            apart=params["rhs_dilation"][axis],
        )
    channels = kernel[numbers.rhs_spec[1]]  # per group
    outer = out[numbers.out_spec[0]] * out[numbers.out_spec[1]]
    return 2 * pairs * channels * outer


def _pairs(
    *, size: int, taps: int, out: int, stride: int, low: int, between: int, apart: int
) -> int:
    """Counts, along one axis, the pairs of outputs and taps that use an element of the input."""
    place = np.arange(out)[:, None] * stride + np.arange(taps) * apart - low
    inside = (place >= 0) & (place <= (size - 1) * between) & (place % between == 0)
    return int(inside.sum())


def _shape(variable: Any) -> tuple[int, ...]:
    shape: tuple[int, ...] = variable.aval.shape
    return shape
