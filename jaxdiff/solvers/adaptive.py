"""An adaptive Runge–Kutta method for the probability-flow ODE: each step is solved to tolerance."""

from jaxdiff import flow
from jaxdiff.checks import check_one_of
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers.base import Solver, one_step
from jaxdiff.typing import Array, Key, Scalar


def adaptive(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    rtol: Scalar = 1e-5,
    atol: Scalar = 1e-5,
    method: flow.Method = "tsit5",
    max_steps: int = 1000,
) -> Solver:
    """Solve the probability-flow ODE from t to s to a given accuracy, with adaptive inner steps.

    dy/dφ = cos φ · ε̂ − sin φ · x̂_0,    y = x/√(α² + σ²),    tan φ = σ/α

    A grid of two times is one adaptive solution; a longer grid makes it stop at the times between,
    for example to save the state. See :mod:`jaxdiff.flow` for the error that is controlled, and for
    how an example depends on the rest of its batch.

    Args:
        denoise_fn: the model.
        process: the forward process.
        rtol: tolerated error of an inner step, relative to y.
        atol: tolerated error of an inner step, in units of y (of unit variance if the data are).
        method: "tsit5" or "dopri5", six evaluations for each inner step, plus two at the start.
        max_steps: maximum number of inner steps, including rejected ones.

    Returns:
        A deterministic solver of order 5, in both directions of time, down to t = 0 itself.

    Raises:
        InputError: if ``method`` does not exist; if a step does not reach s, as
            :func:`jaxdiff.flow.integrate`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxdiff
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(1), jnp.full((1, 1), 4.0))
        >>> solver, key = adaptive(exact, process), jax.random.key(0)
        >>> x = jaxdiff.sample(key, solver, jnp.ones((1, 1)), jnp.array([1.0, 0.0]))
        >>> round(float(x[0, 0]), 3)  # one standard deviation stays one: 2/√(4α² + σ²) at t = 1
        2.0

    Reference: Song et al. 2021, section 4.3 and appendix D.4; Tsitouras 2011.
    """
    check_one_of(method=(method, flow.Method))

    def step(key: Key, x: Array, t: Array, s: Array) -> Array:
        return flow.solve_ode(
            denoise_fn,
            process,
            x,
            t,
            s,
            rtol=rtol,
            atol=atol,
            method=method,
            max_steps=max_steps,
        )

    return one_step(step)
