"""The interface of a solver: two pure functions, in the manner of optax.

``init(x, t) -> state`` starts at any time; ``step(key, state, t, s) -> state`` steps from t to s;
``finish(key, state, s) -> state``, if there is one, is applied at the last time.
``state.x`` is the current sample; a multistep solver carries its history beside it. Times come in
pairs, never as an index or a dt, so one step works for every grid and every process.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxdiff.arrays import ALPHA_FLOOR, SIGMA_FLOOR
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Bool, Float, Key, Real, Scalar

StepFn = Callable[
    [Key, Float[Array, "batch *event"], Float[Array, ""], Float[Array, ""]],
    Float[Array, "batch *event"],
]
"""``(key, x, t, s) -> x``."""


class Solver(NamedTuple):
    """The pure functions of a solver; see :func:`jaxdiff.sample` for the loop around them."""

    init: Callable[[Float[Array, "batch *event"], Float[Array, ""]], Any]
    step: Callable[[Key, Any, Float[Array, ""], Float[Array, ""]], Any]
    draws_noise: bool = False  # as for a reverse SDE, which steps only towards the data
    finish: Callable[[Key, Any, Float[Array, ""]], Any] | None = None


SolverFn = Callable[[DenoiseFn, Process], Solver]
"""Any function of :mod:`jaxdiff.solvers`, with its options bound by ``functools.partial``."""


class State(NamedTuple):
    """The state of every solver without memory."""

    x: Float[Array, "batch *event"]


def one_step(step: StepFn, *, draws_noise: bool = False) -> Solver:
    """Make a solver from a function that maps the sample at t to the sample at s.

    Args:
        step: ``(key, x, t, s) -> x``.
        draws_noise: whether it steps only towards the data.

    Returns:
        The solver whose state is only that sample, in the dtype in which it started.
    """
    return Solver(
        init=lambda x, t: State(x),
        step=lambda key, state, t, s: State(step(key, state.x, t, s).astype(state.x.dtype)),
        draws_noise=draws_noise,
    )


def ddim_step(estimate: Estimate, process: Process, s: Scalar) -> Float[Array, "batch *event"]:
    """The sample at s with the data and noise of an estimate, α_s x̂_0 + σ_s ε̂.

    This is a step of DDIM, the first-order solution of the probability-flow ODE, to which every
    solver of higher order adds a correction.
    """
    return process.alpha(s) * estimate.x0 + process.sigma(s) * estimate.eps


def finite_step(process: Process, t: Scalar, s: Scalar) -> Bool[Array, ""]:
    """Whether a step from t to s can be refined in the variable σ/α.

    It cannot if it ends at the data, where ε̂ is meaningless, or if either end has no signal, so
    that σ/α is infinite: the step of DDIM is then exact in the limit, or the best available.
    """
    return (process.sigma(s) > SIGMA_FLOOR) & (
        jnp.minimum(process.alpha(t), process.alpha(s)) > ALPHA_FLOOR
    )


def half_log_snr(process: Process, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """λ(t) = log(α/σ), the variable of the exponential integrators of the ODE."""
    return 0.5 * process.log_snr(t)
