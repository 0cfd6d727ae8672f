"""Ancestral sampling: draw from the posterior of the chain, with x̂_0 in place of x_0."""

from typing import Literal

import jax
import jax.numpy as jnp

from jaxdiff.arrays import SIGMA_FLOOR
from jaxdiff.checks import check_one_of
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, posterior
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, Key

Variance = Literal["own", "posterior", "transition"]


def ancestral(denoise_fn: DenoiseFn, process: Process, *, variance: Variance = "own") -> Solver:
    """DDPM's sampler, for every process and every pair of times.

    x_s = E[x_s | x_t, x̂_0(x_t)] + σ_p z,    σ_p = σ_s √(1 − SNR_t/SNR_s) (σ_t/σ_s)^v

    One evaluation per step, and no noise where σ(s) = 0.

    Args:
        denoise_fn: the model.
        process: the forward process.
        variance: "posterior", v = 0, exact for a single data point; "transition", v = 1, exact for
            data N(0, I), with which Ho et al. measured their FID; "own", the v that the model has
            learned, or the posterior's if it has learned none.

    Returns:
        A stochastic solver of weak order 1, for steps towards the data.

    Raises:
        InputError: if ``variance`` is none of these.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax, jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.full(1, 3.0), jnp.zeros((1, 1)))  # all data are 3
        >>> x = processes.sample_prior(jax.random.key(0), process, (4, 1))
        >>> times = schedules.uniform_times(10)
        >>> x = jaxdiff.sample(jax.random.key(1), ancestral(exact, process), x, times)
        >>> bool(jnp.allclose(x, 3.0))
        True

    Reference: Ho et al. 2020, algorithm 2 and section 3.2; Nichol & Dhariwal 2021, eq. 15.
    """
    check_one_of(variance=(variance, Variance))

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        estimate = denoise_fn(x, t)
        mean, std = posterior(process, x, estimate.x0, s=s, t=t)
        fraction = {"own": getattr(estimate, "variance_fraction", 0.0), "posterior": 0.0}
        noisy = process.sigma(s) > SIGMA_FLOOR
        ratio = jnp.where(noisy, process.sigma(t) / jnp.where(noisy, process.sigma(s), 1.0), 1.0)
        std *= ratio ** fraction.get(variance, 1.0)
        return (mean + std * jax.random.normal(key, x.shape, x.dtype)).astype(x.dtype)

    return one_step(step, draws_noise=True)
