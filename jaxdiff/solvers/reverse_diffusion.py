"""Reverse diffusion: the reverse SDE, discretised like the forward chain."""

import jax
import jax.numpy as jnp

from jaxdiff.arrays import SIGMA_FLOOR
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, transition
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, Key


def reverse_diffusion(denoise_fn: DenoiseFn, process: Process, *, denoise: bool = False) -> Solver:
    """Score_sde's predictor: undo a step of the chain x_t = α_ts x_s + σ_ts z.

    x_s = x_t − (α_ts − 1) x_t − σ²_ts ε̂/σ_t + σ_ts z

    On DDPM's chain this is (2 − √(1 − β)) x + β score + √β z, on NCSN's scales
    x + (σ_i² − σ_{i−1}²) score + √(σ_i² − σ_{i−1}²) z. Unlike in ancestral sampling, the noise of a
    step to σ(s) = 0 does not vanish. On data that vary by more than σ_t it about makes up for the
    variance missing from x̂_0; on narrower data ``denoise`` omits it, as the published code does on
    its last step.

    Args:
        denoise_fn: the model.
        process: the forward process.
        denoise: whether a step that ends where σ = 0 draws no noise.

    Returns:
        A stochastic solver of weak order 1, one evaluation per step, for steps towards the data.

    Example:
        >>> import jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> process = processes.VE(sigma_min=0.01, sigma_max=10.0)
        >>> exact = oracles.gaussian(process, jnp.zeros(1), jnp.eye(1))
        >>> x = processes.sample_prior(jax.random.key(0), process, (4, 1))
        >>> times = schedules.uniform_times(10)
        >>> jaxdiff.sample(jax.random.key(1), reverse_diffusion(exact, process), x, times).shape
        (4, 1)

    Reference: Song et al. 2021, eq. 46, and algorithms 2 and 3.
    """

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        scale, std = transition(process, s=s, t=t)
        mean = x - (scale - 1) * x - (std**2 / process.sigma(t)) * denoise_fn(x, t).eps
        drawn = jnp.where(process.sigma(s) > SIGMA_FLOOR, std, 0.0) if denoise else std
        return mean + drawn * jax.random.normal(key, x.shape, x.dtype)

    return one_step(step, draws_noise=True)
