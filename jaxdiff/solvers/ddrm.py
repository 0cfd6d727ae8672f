"""DDRM: sample each singular axis of a linear measurement by its own rule.

Along axis i of the data, with singular value s_i and noise of standard deviation s in y, the
measurement is ȳ_i = x̄_i + (s/s_i) n. A step t → s' draws, with α and σ at s' and z ~ N(0, 1),

    s_i = 0               α x̄̂_i + σ (√(1 − η²) ε̄̂_i + η z)
    σ < α s/s_i           α x̄̂_i + σ (√(1 − η²) (ȳ_i − x̄̂_i) s_i/s + η z)
    σ ≥ α s/s_i           α ((1 − η_b) x̄̂_i + η_b ȳ_i) + √(σ² − η_b² α² s²/s_i²) z

so that the measurement enters with its own noise as part of σ. In the paper α is 1.
"""

import jax
import jax.numpy as jnp

from jaxdiff.checks import known_scalar
from jaxdiff.guidance.inverse.measurement import check_measured
from jaxdiff.guidance.inverse.spectrum import Spectrum
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, ArrayLike, Key, Real, Scalar


def ddrm(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    spectrum: Spectrum,
    y: Real[ArrayLike, "..."],
    noise_std: Scalar = 0.0,
    eta: Scalar = 0.85,
    eta_measured: Scalar = 1.0,
) -> Solver:
    """Denoising diffusion restoration models, for linear measurements and every process.

    Args:
        denoise_fn: the model.
        process: the forward process.
        spectrum: of the operator, :func:`jaxdiff.guidance.inverse.spectrum`.
        y: the measurement, one for all examples or one for each.
        noise_std: s, standard deviation of its noise, non-negative.
        eta: η, fraction of new noise on the axes that the measurement does not determine, in
            [0, 1].
        eta_measured: η_b, weight of the measurement on the others, in [0, 1].

    Returns:
        A stochastic solver with one evaluation per step.

    Raises:
        InputError: if noise_std is negative or not finite, eta or eta_measured is outside [0, 1], y
            is not finite, or y does not fit the operator.

    Example:
        >>> import jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> from jaxdiff.guidance import inverse
        >>> process, first = processes.VP(), inverse.spectrum(lambda x: x[:, :1], (2,))
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> x = processes.sample_prior(jax.random.key(0), process, (1, 2))
        >>> solver = ddrm(exact, process, spectrum=first, y=jnp.full(1, 3.0))
        >>> jaxdiff.sample(jax.random.key(1), solver, x, schedules.uniform_times(20))[0, 0]
        Array(3., dtype=float32)

    Reference: Kawar, Elad, Ermon & Song 2022, section 3.
    """
    known_scalar("eta must be in [0, 1]", eta, 0, 1)
    known_scalar("eta_measured must be in [0, 1]", eta_measured, 0, 1)
    y = check_measured(y, noise_std)
    eta, weight = jnp.asarray(eta), jnp.asarray(eta_measured)
    seen = spectrum.values > 0
    unit = noise_std / jnp.where(seen, spectrum.values, 1.0)  # of the noise in ȳ

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        estimate = denoise_fn(x, t)
        x0, eps = spectrum.to_axes(estimate.x0), spectrum.to_axes(estimate.eps)
        target = spectrum.measured(y, x.shape[0])
        alpha, sigma = process.alpha(s), process.sigma(s)
        z = jax.random.normal(key, x0.shape, x0.dtype)

        noise = (alpha * unit)[None]
        noisy = jnp.broadcast_to(sigma >= noise, x0.shape)
        away = (target - x0) / jnp.where(unit > 0, unit, 1.0)[None]
        held = jnp.sqrt(1 - eta**2)
        free = alpha * x0 + sigma * (held * jnp.where(seen[None], away, eps) + eta * z)
        spread = jnp.sqrt(jnp.maximum(sigma**2 - (weight * noise) ** 2, 0.0))
        pulled = alpha * ((1 - weight) * x0 + weight * target) + spread * z
        return spectrum.from_axes(jnp.where(seen[None] & noisy, pulled, free))

    return one_step(step, draws_noise=True)
