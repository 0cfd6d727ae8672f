"""What a solver is: two pure functions, in the manner of optax.

``init(x, t) -> state`` starts anywhere; ``step(key, state, t, s) -> state`` walks from t to s;
``finish(key, state, s) -> state``, where there is one, is what is left to do at the last time.
``state.x`` is the current sample; a multistep solver carries its history beside it. Times come in
pairs, never as an index or a dt, so one step serves every grid, and every process with it.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxdiff.arrays import ALPHA_FLOOR, SIGMA_FLOOR
from jaxdiff.predictions import Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Bool, Float, Key, Real, Scalar

StepFn = Callable[
    [Key, Float[Array, "batch *event"], Float[Array, ""], Float[Array, ""]],
    Float[Array, "batch *event"],
]
"""``(key, x, t, s) -> x``."""


class Solver(NamedTuple):
    """Pure functions of a walk; see :func:`jaxdiff.sample` for the loop around them."""

    init: Callable[[Float[Array, "batch *event"], Float[Array, ""]], Any]
    step: Callable[[Key, Any, Float[Array, ""], Float[Array, ""]], Any]
    draws_noise: bool = False  # as a reverse SDE does, which has steps towards the data alone
    finish: Callable[[Key, Any, Float[Array, ""]], Any] | None = None


class State(NamedTuple):
    """The state of every solver without a memory."""

    x: Float[Array, "batch *event"]


def one_step(step: StepFn, *, draws_noise: bool = False) -> Solver:
    """Make a solver of a function that maps the sample at t to the sample at s.

    Args:
        step: ``(key, x, t, s) -> x``.
        draws_noise: whether it walks towards the data alone.

    Returns:
        The solver whose state is that sample alone, in the dtype in which it started.
    """
    return Solver(
        init=lambda x, t: State(x),
        step=lambda key, state, t, s: State(step(key, state.x, t, s).astype(state.x.dtype)),
        draws_noise=draws_noise,
    )


def ddim_step(estimate: Estimate, process: Process, s: Scalar) -> Float[Array, "batch *event"]:
    """The sample at s that has the data and the noise of an estimate, α_s x̂_0 + σ_s ε̂.

    This is a step of DDIM, the first-order solution of the probability-flow ODE; every solver of
    higher order adds a correction to it.
    """
    return process.alpha(s) * estimate.x0 + process.sigma(s) * estimate.eps


def finite_step(process: Process, t: Scalar, s: Scalar) -> Bool[Array, ""]:
    """Whether a step from t to s can be refined in the variable σ/α.

    It cannot where it ends at the data, whose ε̂ says nothing, or has an end without signal, where
    σ/α is infinite: what DDIM makes of it is then exact in the limit, or all there is.
    """
    return (process.sigma(s) > SIGMA_FLOOR) & (
        jnp.minimum(process.alpha(t), process.alpha(s)) > ALPHA_FLOOR
    )


def half_log_snr(process: Process, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """λ(t) = log(α/σ), the variable in which the ODE's exponential integrators step."""
    return 0.5 * process.log_snr(t)
