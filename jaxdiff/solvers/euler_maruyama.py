"""Euler–Maruyama on the reverse-time SDE."""

import jax
import jax.numpy as jnp

from jaxdiff.checks import known_scalar
from jaxdiff.dynamics import reverse_sde
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, Key, Scalar


def euler_maruyama(denoise_fn: DenoiseFn, process: Process, *, eta: Scalar = 1.0) -> Solver:
    """The simplest discretisation of the reverse SDE, and of the family between it and the ODE.

    x_s = x_t + [f x_t + ½(1 + η²) g² ε̂/σ](s − t) + η g √(t − s) z

    Args:
        denoise_fn: the model.
        process: the forward process.
        eta: amplitude η of the noise: 1 for the reverse SDE, 0 for Euler's method on the ODE.

    Returns:
        A stochastic solver of weak order 1, one evaluation per step, for steps towards the data; at
        η = 0 a deterministic one, in both directions.

    Raises:
        InputError: if eta is negative.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VE(sigma_min=0.01, sigma_max=10.0)
        >>> exact = oracles.gaussian(process, jnp.zeros(1), jnp.eye(1))
        >>> solver = euler_maruyama(exact, process)
        >>> state = solver.init(jnp.full((4, 1), 10.0), jnp.array(1.0))
        >>> state = solver.step(jax.random.key(0), state, jnp.array(1.0), jnp.array(0.9))
        >>> state.x.shape
        (4, 1)

    Reference: Song et al. 2021, eq. 6 and appendix E.
    """
    number = known_scalar("eta must be finite and at least 0", eta, 0)

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        drift, diffusion = reverse_sde(denoise_fn, process, x, t, eta=eta)
        noise = jax.random.normal(key, x.shape, x.dtype)
        return x + drift * (s - t) + diffusion * jnp.sqrt(jnp.abs(t - s)) * noise

    return one_step(step, draws_noise=bool(number))
