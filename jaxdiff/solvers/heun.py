"""Heun's method for the probability-flow ODE, in the variables in which that ODE is simplest.

With x̄ = x/α and σ̄ = σ/α the ODE of every process is dx̄/dσ̄ = ε̂(x, t): no drift, not stiff.
"""

import jax

from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, ddim_step, finite_step, one_step
from jaxdiff.typing import Array, Key


def heun(denoise_fn: DenoiseFn, process: Process) -> Solver:
    """Heun's second-order method for the probability-flow ODE.

    x̄_s = x̄_t + (σ̄_s − σ̄_t) ½[ε̂(x_t, t) + ε̂(x̃_s, s)],    x̃_s the Euler (DDIM) step

    Args:
        denoise_fn: the model.
        process: the forward process.

    Returns:
        A deterministic solver of order 2, in both directions of time; two evaluations per step, one
        on a step that ends where σ = 0, or with α = 0 at either end.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax, jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.full(1, 3.0), jnp.zeros((1, 1)))  # all data are 3
        >>> x = processes.sample_prior(jax.random.key(0), process, (4, 1))
        >>> times = schedules.uniform_times(10)
        >>> x = jaxdiff.sample(jax.random.key(1), heun(exact, process), x, times)
        >>> bool(jnp.allclose(x, 3.0))
        True

    Reference: Karras et al. 2022, algorithm 1 and section 3.
    """

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        estimate = denoise_fn(x, t)
        euler = ddim_step(estimate, process, s)

        def correct() -> Array:
            width = process.sigma(s) - process.sigma(t) * process.alpha(s) / process.alpha(t)
            return euler + 0.5 * width * (denoise_fn(euler, s).eps - estimate.eps)

        return jax.lax.cond(finite_step(process, t, s), correct, lambda: euler)

    return one_step(step)
