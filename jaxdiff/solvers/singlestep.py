"""DPM-Solver and DPM-Solver++, singlestep: exponential Runge–Kutta in λ = log(α/σ).

The probability-flow ODE is linear in x except for one estimate, of the noise (DPM-Solver) or of the
data (DPM-Solver++). With v that estimate, c = σ_s and k = −h for the noise, c = α_s and k = h for
the data, h = λ_s − λ_t, both follow one rule: DDIM's step plus a correction in the change of v,

    order 2:   c (1 − e^{−k}) (v_½ − v)                          x_½ by DDIM
    order 3:   (3/2) c (1 − (1 − e^{−k})/k) (v_⅔ − v)             x_⅓ by DDIM, and
               x_⅔ by DDIM and 2 c_⅔ (1 − (1 − e^{−κ})/κ) (v_⅓ − v),  κ = ⅔k
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.arrays import SIGMA_FLOOR
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.schedules import time_at_log_snr
from jaxdiff.solvers.base import Solver, ddim_step, half_log_snr, one_step
from jaxdiff.solvers.quadrature import slope_weight
from jaxdiff.typing import Array, Key


def dpm_2(denoise_fn: DenoiseFn, process: Process) -> Solver:
    """DPM-Solver-2: the exponential midpoint method in the estimate of the noise.

    x_s = (α_s/α_t) x_t − σ_s (e^h − 1) ε̂(x_½, ½),    ½ the middle of the step in λ

    Args:
        denoise_fn: the model.
        process: the forward process.

    Returns:
        A deterministic solver of order 2, in both directions of time; two evaluations per step, one
        on a step that ends where σ = 0.

    Reference: Lu et al. 2022 (DPM-Solver), algorithm 1.
    """
    return _singlestep(denoise_fn, process, order=2, of_noise=True)


def dpm_3(denoise_fn: DenoiseFn, process: Process) -> Solver:
    """DPM-Solver-3: three evaluations of the noise, at a third and two thirds of the step in λ.

    Args:
        denoise_fn: the model.
        process: the forward process.

    Returns:
        A deterministic solver of order 3, in both directions of time; three evaluations per step,
        one on a step that ends where σ = 0.

    Reference: Lu et al. 2022 (DPM-Solver), algorithm 2.
    """
    return _singlestep(denoise_fn, process, order=3, of_noise=True)


def dpmpp_2s(denoise_fn: DenoiseFn, process: Process) -> Solver:
    """DPM-Solver++(2S): the exponential midpoint method in the estimate of the data.

    x_s = (σ_s/σ_t) x_t + α_s (1 − e^{−h}) x̂_0(x_½, ½),    ½ the middle of the step in λ

    Args:
        denoise_fn: the model.
        process: the forward process.

    Returns:
        A deterministic solver of order 2, in both directions of time; two evaluations per step, one
        on a step that ends where σ = 0.

    Reference: Lu et al. 2022 (DPM-Solver++), algorithm 1.
    """
    return _singlestep(denoise_fn, process, order=2, of_noise=False)


def dpmpp_3s(denoise_fn: DenoiseFn, process: Process) -> Solver:
    """DPM-Solver++(3S): three evaluations of the data, at a third and two thirds of the step in λ.

    Args:
        denoise_fn: the model.
        process: the forward process.

    Returns:
        A deterministic solver of order 3, in both directions of time; three evaluations per step,
        one on a step that ends where σ = 0.

    Reference: Lu et al. 2022 (DPM-Solver++), eq. 8 at order 3.
    """
    return _singlestep(denoise_fn, process, order=3, of_noise=False)


def _singlestep(denoise_fn: DenoiseFn, process: Process, *, order: int, of_noise: bool) -> Solver:
    scale: Callable[[Array], Array] = process.sigma if of_noise else process.alpha

    def view(estimate: Estimate) -> Array:
        return estimate.eps if of_noise else estimate.x0

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        first = denoise_fn(x, t)
        now = half_log_snr(process, t)
        width = half_log_snr(process, s) - now
        decay = -width if of_noise else width

        def time_at(fraction: float) -> Array:
            return time_at_log_snr(process, 2 * (now + fraction * width))

        def change(x: Array, t: Array) -> Array:
            return view(denoise_fn(x, t)) - view(first)

        def refined() -> Array:
            if order == 2:
                middle = time_at(1 / 2)
                bend = -jnp.expm1(-decay) * change(ddim_step(first, process, middle), middle)
            else:
                third, late = time_at(1 / 3), time_at(2 / 3)
                bend = change(ddim_step(first, process, third), third)
                bend = 2 * scale(late) * slope_weight(2 / 3 * decay) * bend
                bend = change(ddim_step(first, process, late) + bend, late)
                bend = 3 / 2 * slope_weight(decay) * bend
            return ddim_step(first, process, s) + scale(s) * bend

        return jax.lax.cond(
            process.sigma(s) > SIGMA_FLOOR, refined, lambda: ddim_step(first, process, s)
        )

    return one_step(step)
