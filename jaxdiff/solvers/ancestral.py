"""Ancestral sampling: draw from the chain's own posterior, with x̂_0 in the place of x_0."""

import jax

from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, posterior
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, Key


def ancestral(denoise_fn: DenoiseFn, process: Process) -> Solver:
    """DDPM's sampler, for every process and every pair of times.

    x_s ~ q(x_s | x_t, x̂_0(x_t)); one evaluation a step, and no noise where σ(s) = 0

    Args:
        denoise_fn: the model.
        process: the forward process.

    Returns:
        A stochastic solver of weak order 1, for steps towards the data.

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

    Reference: Ho et al. 2020, algorithm 2.
    """

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        mean, std = posterior(process, x, denoise_fn(x, t).x0, s=s, t=t)
        return mean + std * jax.random.normal(key, x.shape, x.dtype)

    return one_step(step)
