"""EDM's stochastic sampler: add some noise, then take a step of Heun's method from there."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import std_of
from jaxdiff.checks import check_known, known_scalar
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.schedules import time_at_log_snr
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.solvers.heun import heun
from jaxdiff.typing import Array, Key, Scalar


def stochastic_heun(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    churn: Scalar = math.sqrt(2) - 1,
    noise_scale: Scalar = 1.0,
    sigma_min: Scalar = 0.0,
    sigma_max: Scalar = math.inf,
) -> Solver:
    """Heun's method with churn, the stochastic sampler of EDM.

    σ̂ = (1 + γ) σ̄_t,    x̂ = x̄_t + √(σ̂² − σ̄_t²) z,    then Heun's step from σ̂ to σ̄_s

    with x̄ = x/α and σ̄ = σ/α. At γ = 0 this is :func:`heun`; no time is noisier than t = 1.

    Args:
        denoise_fn: the model.
        process: the forward process.
        churn: γ, the relative rise of the noise before a step, in the paper min(S_churn/n, √2 − 1)
            for n steps.
        noise_scale: standard deviation of z, the paper's S_noise.
        sigma_min: σ/α below which no noise is added, the paper's S_tmin.
        sigma_max: σ/α above which no noise is added, the paper's S_tmax.

    Returns:
        A stochastic solver for steps towards the data; evaluations as in :func:`heun`.

    Raises:
        InputError: if churn or noise_scale is negative, or not sigma_min < sigma_max.

    Reference: Karras et al. 2022, algorithm 2.
    """
    churns = known_scalar("churn must be finite and at least 0", churn, 0)
    known_scalar("noise_scale must be finite and at least 0", noise_scale, 0)
    requirement = "sigma_min must be less than sigma_max"
    check_known(np.less, sigma_min, sigma_max, requirement=requirement, got="{} and {}")
    deterministic = heun(denoise_fn, process)

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        ratio = process.sigma(t) / process.alpha(t)
        raised = time_at_log_snr(process, process.log_snr(t) - 2 * jnp.log1p(churn))
        inside = (sigma_min <= ratio) & (ratio <= sigma_max)
        rises = inside & (jnp.asarray(churn) > 0) & (raised > t)  # by more than the rounding of t
        start = jnp.where(rises, raised, t)
        rise = jnp.expm1(process.log_snr(t) - process.log_snr(start))
        noise = noise_scale * jax.random.normal(key, x.shape, x.dtype)
        x_bar = x / process.alpha(t) + jnp.where(rises, ratio * std_of(rise), 0.0) * noise
        x_hat = process.alpha(start) * x_bar
        return deterministic.step(key, deterministic.init(x_hat, start), start, s).x

    return one_step(step, draws_noise=bool(churns))
