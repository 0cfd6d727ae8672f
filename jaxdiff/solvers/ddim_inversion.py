"""Exact inversion of DDIM: the noisier sample from which its step leads to the given one."""

import jax

from jaxdiff.checks import check_count
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, Key


def ddim_inversion(denoise_fn: DenoiseFn, process: Process, *, iterations: int = 5) -> Solver:
    """Undo DDIM: solve its step from s to t for x_s, by fixed-point iteration.

    x_t = α_t x̂_0 + σ_t ε̂ at (x_s, s),    so    x_s = [(α_s² + σ_s²) x_t + d (α_s ε̂ − σ_s x̂_0)]/c,

    c = α_s α_t + σ_s σ_t, d = σ_s α_t − α_s σ_t; the bracket follows from α_s x̂_0 + σ_s ε̂ = x_s.
    :func:`jaxdiff.solvers.ddim` on increasing times evaluates the model at (x_t, t) instead, and is
    its own inverse only up to its order. Here the error of a round trip is that of the iteration,
    which contracts by tan Δφ · |∂v̂/∂y| in the angle and the units of :mod:`jaxdiff.flow`; for
    Gaussian data of variance λ this is tan Δφ · |1 − λ| σ̄/(λ + σ̄²), σ̄ = σ_s/α_s.

    Args:
        denoise_fn: the model.
        process: the forward process.
        iterations: evaluations per step, all at s, so that the model is never evaluated at σ = 0.

    Returns:
        A deterministic solver of order 1, for increasing times.

    Raises:
        InputError: if ``iterations`` is below 1.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdiff
        >>> from jaxdiff import oracles, processes, schedules, solvers
        >>> process, key = processes.VP(), jax.random.key(0)
        >>> exact = oracles.gaussian(process, jnp.zeros(1), jnp.full((1, 1), 4.0))
        >>> x0, times = jnp.array([[1.0], [-3.0]]), schedules.log_snr_times(process, 50, t_min=1e-3)
        >>> code = jaxdiff.sample(key, ddim_inversion(exact, process), x0, times[::-1])
        >>> back = jaxdiff.sample(key, solvers.ddim(exact, process), code, times)
        >>> bool(jnp.allclose(back, x0, atol=1e-4))
        True

    Reference: the fixed-point iteration of Pan et al. 2023 (AIDI); Song, Meng & Ermon 2021, eq. 14.
    """
    check_count("iterations must be a positive integer", iterations)

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        alpha, sigma = process.alpha(s), process.sigma(s)
        alpha_t, sigma_t = process.alpha(t), process.sigma(t)
        cos, sin = alpha * alpha_t + sigma * sigma_t, sigma * alpha_t - alpha * sigma_t
        square = alpha**2 + sigma**2

        def improve(x_s: Array, _: None) -> tuple[Array, None]:
            estimate = denoise_fn(x_s, s)
            rotation = alpha * estimate.eps - sigma * estimate.x0
            return ((square * x + sin * rotation) / cos).astype(x.dtype), None

        first = (square / cos * x).astype(x.dtype)
        return jax.lax.scan(improve, first, length=iterations)[0]

    return one_step(step)
