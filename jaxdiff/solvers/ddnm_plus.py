"""DDNM⁺: null-space projection with a noisy measurement, whose noise is part of a step's own.

A step of ancestral sampling is x_s = k x_t + a x̂_0 + σ_p z. With x̂_0 + Λ A⁺(y − A x̂_0) in place of
x̂_0 the noise of y, s/s_i along singular axis i, enters x_s as a λ_i s/s_i, so

    λ_i = 1                     and    γ_i = σ_p² − (a s/s_i)²     where σ_p ≥ a s/s_i
    λ_i = σ_p s_i/(a s)         and    γ_i = 0                     elsewhere
                                       γ_i = σ_p²                  where s_i = 0

make the noise of every axis σ_p², of which γ_i is drawn anew.
"""

import jax
import jax.numpy as jnp

from jaxdiff.guidance.inverse.measurement import check_measured
from jaxdiff.guidance.inverse.spectrum import Spectrum
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, one_minus_snr_ratio, posterior
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, ArrayLike, Key, Real, Scalar


def ddnm_plus(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    spectrum: Spectrum,
    y: Real[ArrayLike, "..."],
    noise_std: Scalar,
) -> Solver:
    """Denoising diffusion null-space model for noisy measurements, on ancestral sampling.

    x_s = k x_t + a (x̂_0 + Λ A⁺(y − A x̂_0)) + √Γ z

    Args:
        denoise_fn: the model.
        process: the forward process.
        spectrum: of the operator, :func:`jaxdiff.guidance.inverse.spectrum`.
        y: the measurement, one for all examples or one for each.
        noise_std: s, standard deviation of its noise, non-negative; at 0 it is ancestral sampling
            of :func:`jaxdiff.guidance.inverse.ddnm`.

    Returns:
        A stochastic solver with one evaluation per step.

    Raises:
        InputError: if noise_std is negative or not finite, y is not finite, or y does not fit the
            operator.

    Example:
        >>> import jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> from jaxdiff.guidance import inverse
        >>> process, first = processes.VP(), inverse.spectrum(lambda x: x[:, :1], (2,))
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> x = processes.sample_prior(jax.random.key(0), process, (1, 2))
        >>> solver = ddnm_plus(exact, process, spectrum=first, y=jnp.full(1, 3.0), noise_std=0.0)
        >>> jaxdiff.sample(jax.random.key(1), solver, x, schedules.uniform_times(20))[0, 0]
        Array(3., dtype=float32)

    Reference: Wang, Yu & Zhang 2023, section 3.3 and appendix I.
    """
    y = check_measured(y, noise_std)
    seen = spectrum.values > 0
    unit = noise_std / jnp.where(seen, spectrum.values, 1.0)  # of the noise in A⁺y

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        x0 = spectrum.to_axes(denoise_fn(x, t).x0)
        away = jnp.where(seen[None], spectrum.measured(y, x.shape[0]) - x0, 0.0)
        gain = process.alpha(s) * one_minus_snr_ratio(process, s=s, t=t)
        std = posterior(process, x, x, s=s, t=t).std
        noise = gain * unit
        share = jnp.where(std >= noise, 1.0, std / jnp.where(noise > 0, noise, 1.0))
        mean = posterior(process, x, spectrum.from_axes(x0 + share[None] * away), s=s, t=t).mean
        drawn = jnp.sqrt(jnp.maximum(std**2 - jnp.where(seen, share * noise, 0.0) ** 2, 0.0))
        z = jax.random.normal(key, x0.shape, x0.dtype)
        return mean + spectrum.from_axes(drawn[None] * z)

    return one_step(step, draws_noise=True)
