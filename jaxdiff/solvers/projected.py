"""A solver whose every step is followed by a projection of the sample."""

from collections.abc import Callable
from typing import Any

import jax

from jaxdiff.guidance.replacement import ProjectFn
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, SolverFn
from jaxdiff.typing import Array, Key


def projected(solver: SolverFn, project_fn: ProjectFn) -> SolverFn:
    """Apply a projection after every step of a solver, at the time at which the step ends.

    x_s ← project(step(x_t, t, s), s)

    The result is again a function of model and process, so that it serves as the predictor and as
    the corrector of :func:`jaxdiff.solvers.predictor_corrector`: published inpainting and
    colourisation project after both.

    Args:
        solver: ``(denoise_fn, process) -> Solver``, with its options bound. A multistep solver
            works, but attributes the projections to the model.
        project_fn: ``(key, x, t) -> x``, such as :func:`jaxdiff.guidance.inpainting`.

    Returns:
        ``(denoise_fn, process) -> Solver``, for steps towards the data.

    Example:
        >>> import jax.numpy as jnp
        >>> import jaxdiff
        >>> from jaxdiff import guidance, oracles, processes, schedules, solvers
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.ones((2, 2)))  # both values equal
        >>> known = guidance.inpainting(process, jnp.array([2.0, 0.0]), jnp.array([True, False]))
        >>> solver = projected(solvers.ancestral, known)(exact, process)
        >>> x = processes.sample_prior(jax.random.key(0), process, (1, 2))
        >>> x = jaxdiff.sample(jax.random.key(1), solver, x, schedules.uniform_times(300))
        >>> float(x[0, 0]), 1 < float(x[0, 1]) < 3
        (2.0, True)

    Reference: Song et al. 2021, appendix I.2 and I.3.
    """

    def make(denoise_fn: DenoiseFn, process: Process) -> Solver:
        inner = solver(denoise_fn, process)

        def followed(move: Callable[..., Any]) -> Callable[..., Any]:
            """Project at the last of the times of a step, or of the finish."""

            def moved(key: Key, state: Any, *times: Array) -> Any:
                move_key, project_key = jax.random.split(key)
                state = move(move_key, state, *times)
                return state._replace(x=project_fn(project_key, state.x, times[-1]))

            return moved

        finish = None if inner.finish is None else followed(inner.finish)
        return inner._replace(step=followed(inner.step), draws_noise=True, finish=finish)

    return make
