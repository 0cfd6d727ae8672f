"""L5: the sampling loop: one split of the key, and a scan of a solver over pairs of times."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import check_batch, known
from jaxdiff.solvers.base import Solver
from jaxdiff.typing import Array, Float, InputError, Key, PyTree, Shaped


def keep_sample(state: Any) -> Float[Array, "batch *event"]:
    """Keep the sample at every time, the default of :func:`trajectory`."""
    return state.x


def sample(
    key: Key, solver: Solver, x_init: Float[Array, "batch *event"], times: Float[Array, "times"]
) -> Float[Array, "batch *event"]:
    """Integrate a batch along a grid of times.

    Args:
        key: randomness; one key per step is split from it.
        solver: a solver made by any function of :mod:`jaxdiff.solvers`.
        x_init: the start: a draw from the prior, noised data, or any other batch.
        times: n + 1, strictly decreasing to sample, strictly increasing to invert an ODE.

    Returns:
        x at ``times[-1]`` after n steps; no trajectory is stored.

    Raises:
        InputError: if ``times`` is not a strictly monotone vector of two or more in [0, 1], or
            increases though the solver draws noise, or ``x_init`` is not a batch of floats.

    Example:
        >>> from jaxdiff import oracles, processes, schedules, solvers
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> x = processes.sample_prior(jax.random.key(0), process, (4, 2))
        >>> sample(jax.random.key(1), solvers.ddim(exact, process), x,
        ...        schedules.uniform_times(10)).shape
        (4, 2)
    """
    x, _ = trajectory(key, solver, x_init, times, save_fn=lambda state: None)
    return x


def trajectory(
    key: Key,
    solver: Solver,
    x_init: Float[Array, "batch *event"],
    times: Float[Array, "times"],
    *,
    save_fn: Callable[[Any], PyTree] = keep_sample,
) -> tuple[Float[Array, "batch *event"], PyTree[Shaped[Array, "times ..."]]]:
    """Integrate a batch along a grid of times, and save ``save_fn(state)`` at every time.

    Args:
        key: randomness; one key per step is split from it.
        solver: a solver made by any function of :mod:`jaxdiff.solvers`.
        x_init: the start.
        times: strictly monotone.
        save_fn: maps the solver's state to what is saved; the sample itself by default.

    Returns:
        ``(x, saved)``: the final sample, and the saved values at every time, by default from
        ``x_init`` to x.

    Raises:
        InputError: if ``times`` is not a strictly monotone vector of two or more in [0, 1], or
            increases though the solver draws noise, or ``x_init`` is not a batch of floats.

    Example:
        >>> from jaxdiff import oracles, processes, schedules, solvers
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> x = processes.sample_prior(jax.random.key(0), process, (4, 2))
        >>> solver = solvers.heun(exact, process)
        >>> _, path = trajectory(jax.random.key(1), solver, x, schedules.uniform_times(10))
        >>> path.shape
        (11, 4, 2)
    """
    times, x_init = jnp.asarray(times), jnp.asarray(x_init)
    check_times(times, towards_data=solver.draws_noise)
    check_batch("x_init", x_init)

    def step(state: Any, inputs: tuple[Key, Array, Array]) -> tuple[Any, PyTree]:
        state = solver.step(inputs[0], state, inputs[1], inputs[2])
        return state, save_fn(state)

    first = solver.init(x_init, times[0])
    keys = jax.random.split(key, times.shape[0] - 1)
    last, saved = jax.lax.scan(step, first, (keys, times[:-1], times[1:]))
    if solver.finish is not None:
        last = solver.finish(jax.random.fold_in(key, keys.shape[0]), last, times[-1])
        saved = jax.tree.map(lambda a, b: a.at[-1].set(b), saved, save_fn(last))
    saved = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), save_fn(first), saved)
    return last.x, saved


def check_times(times: Shaped[Array, "..."], *, towards_data: bool = False) -> None:
    """Check that a grid is strictly monotone in [0, 1], if its numbers are known.

    Args:
        times: the grid.
        towards_data: whether it must decrease.

    Raises:
        InputError: if it is not.
    """
    if times.ndim != 1 or times.shape[0] < 2:
        raise InputError(f"times must be a vector of at least two times, got shape {times.shape}")
    numbers = known(times)  # None for a grid that is made inside the caller's jit
    if numbers is None:
        return
    steps = np.diff(numbers)
    if not (np.all(steps < 0) or np.all(steps > 0)):
        raise InputError(
            f"times must decrease strictly (or increase strictly, to invert), got {times}"
        )
    if not np.all((numbers >= 0) & (numbers <= 1)):
        raise InputError(f"times must be in [0, 1], from data to noise, got {times}")
    if towards_data and steps[0] > 0:
        raise InputError(
            "times must decrease for a solver that draws noise, since it only runs towards the "
            f"data, got {times}"
        )
