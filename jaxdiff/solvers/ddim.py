"""DDIM: keep the estimates of data and noise, and recombine them at the next time."""

import jax
import jax.numpy as jnp

from jaxdiff.arrays import std_of
from jaxdiff.checks import known_scalar
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, one_minus_snr_ratio
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, Key, Scalar


def ddim(denoise_fn: DenoiseFn, process: Process, *, eta: Scalar = 0.0) -> Solver:
    """Denoising diffusion implicit models, for every process.

    x_s = α_s x̂_0 + √(σ_s² − η²σ̃²) ε̂ + η σ̃ z,    σ̃ the posterior's standard deviation

    At η = 0 this is the first-order exponential integrator of the probability-flow ODE, which runs
    in both directions of time; at η = 1 it is ancestral sampling.

    Args:
        denoise_fn: the model.
        process: the forward process.
        eta: fraction of the posterior's noise, in [0, 1].

    Returns:
        A solver with one evaluation per step.

    Raises:
        InputError: if eta is outside [0, 1].

    Example:
        >>> import jax, jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.full(1, 3.0), jnp.zeros((1, 1)))  # all data are 3
        >>> x = processes.sample_prior(jax.random.key(0), process, (4, 1))
        >>> times = schedules.uniform_times(10)
        >>> x = jaxdiff.sample(jax.random.key(1), ddim(exact, process, eta=0.5), x, times)
        >>> bool(jnp.allclose(x, 3.0))
        True

    Reference: Song, Meng & Ermon 2021, eq. 12 and 16.
    """
    number = known_scalar("eta must be in [0, 1]", eta, 0, 1)
    deterministic = number == 0
    eta = jnp.asarray(eta)

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        estimate = denoise_fn(x, t)
        x0, eps = estimate.x0, estimate.eps
        alpha, sigma = process.alpha(s), process.sigma(s)
        if deterministic:
            return alpha * x0 + sigma * eps
        drawn = eta * std_of(one_minus_snr_ratio(process, s=s, t=t))
        # 1 − drawn², from terms that do not cancel where almost all SNR is lost
        held = (1 - eta**2) + eta**2 * jnp.exp(process.log_snr(t) - process.log_snr(s))
        noise = jax.random.normal(key, x.shape, x.dtype)
        return alpha * x0 + sigma * (jnp.sqrt(held) * eps + drawn * noise)

    return one_step(step, draws_noise=bool(number))
