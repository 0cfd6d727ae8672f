"""RePaint: repeat every step, with the known part replaced, so that the rest can agree with it."""

from typing import Any

import jax
import jax.numpy as jnp

from jaxdiff.arrays import SIGMA_FLOOR
from jaxdiff.checks import check_count
from jaxdiff.guidance.replacement import ProjectFn
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, transition
from jaxdiff.solvers.base import Solver, SolverFn, one_step
from jaxdiff.typing import Array, Key


def repaint(solver: SolverFn, project_fn: ProjectFn, *, num_resamples: int = 10) -> SolverFn:
    """Step from t to s, replace what is known, add noise back to t, and so on.

    x_s ← project(step(x_t, t, s), s);    x_t ← α_ts x_s + σ_ts z;    ``num_resamples`` times in all

    With one it is :func:`jaxdiff.solvers.projected`. A step that ends without noise ends there.

    Args:
        solver: ``(denoise_fn, process) -> Solver`` without memory, its options bound; in the paper
            ancestral sampling.
        project_fn: ``(key, x, t) -> x``, such as :func:`jaxdiff.guidance.inpainting`.
        num_resamples: how often each step is taken, the paper's U (with its jump length j = 1).

    Returns:
        ``(denoise_fn, process) -> Solver``, for steps towards the data.

    Raises:
        InputError: if num_resamples < 1.

    Example:
        >>> import jaxdiff
        >>> from jaxdiff import guidance, oracles, processes, schedules, solvers
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.ones((2, 2)))  # both values equal
        >>> known = guidance.inpainting(process, jnp.array([2.0, 0.0]), jnp.array([True, False]))
        >>> solver = repaint(solvers.ancestral, known, num_resamples=5)(exact, process)
        >>> x = processes.sample_prior(jax.random.key(0), process, (1, 2))
        >>> x = jaxdiff.sample(jax.random.key(1), solver, x, schedules.uniform_times(50))
        >>> float(x[0, 0]), 1.5 < float(x[0, 1]) < 2.5
        (2.0, True)

    Reference: Lugmayr et al. 2022, algorithm 1.
    """
    check_count("num_resamples must be a positive integer", num_resamples)

    def make(denoise_fn: DenoiseFn, process: Process) -> Solver:
        inner = solver(denoise_fn, process)

        def step(key: Key, x: Array, t: Array, s: Array) -> Array:
            scale, std = transition(process, s=s, t=t)
            noisy = process.sigma(s) > SIGMA_FLOOR

            def once(carry: tuple[Array, Array], key: Key) -> tuple[tuple[Array, Array], Any]:
                x, _ = carry
                step_key, project_key, noise_key = jax.random.split(key, 3)
                new: Array = inner.step(step_key, inner.init(x, t), t, s).x
                new = project_fn(project_key, new, s)
                back = scale * new + std * jax.random.normal(noise_key, x.shape, x.dtype)
                return (jnp.where(noisy, back.astype(x.dtype), x), new), None

            (_, x), _ = jax.lax.scan(once, (x, x), jax.random.split(key, num_resamples))
            return x

        return one_step(step, draws_noise=True)

    return make
