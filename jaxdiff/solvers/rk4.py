"""The classical Runge–Kutta method for the probability-flow ODE, in the variables of Heun."""

import jax
import jax.numpy as jnp

from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.schedules import time_at_log_snr
from jaxdiff.solvers.base import Solver, ddim_step, finite_step, one_step
from jaxdiff.typing import Array, Key


def rk4(denoise_fn: DenoiseFn, process: Process) -> Solver:
    """The classical fourth-order method for dx̄/dσ̄ = ε̂, x̄ = x/α, σ̄ = σ/α.

    x̄_s = x̄_t + (σ̄_s − σ̄_t)(ε̂_1 + 2ε̂_2 + 2ε̂_3 + ε̂_4)/6

    Args:
        denoise_fn: the model.
        process: the forward process.

    Returns:
        A deterministic solver of order 4, in both directions of time; four evaluations per step,
        one on a step that ends where σ = 0, or with α = 0 at either end.

    Reference: Hairer, Nørsett & Wanner 1993, section II.1.
    """

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        first = denoise_fn(x, t)

        def refined() -> Array:
            begin, end = (process.sigma(time) / process.alpha(time) for time in (t, s))
            width = end - begin
            middle = time_at_log_snr(process, -2 * jnp.log(0.5 * (begin + end)))
            x_bar = x / process.alpha(t)

            def eps_at(slope: Array, fraction: float, time: Array) -> Array:
                x_time = process.alpha(time) * (x_bar + fraction * width * slope)
                return denoise_fn(x_time, time).eps

            second = eps_at(first.eps, 0.5, middle)
            third = eps_at(second, 0.5, middle)
            fourth = eps_at(third, 1.0, s)
            slope = (first.eps + 2 * second + 2 * third + fourth) / 6
            return ddim_step(first, process, s) + process.alpha(s) * width * (slope - first.eps)

        return jax.lax.cond(
            finite_step(process, t, s), refined, lambda: ddim_step(first, process, s)
        )

    return one_step(step)
