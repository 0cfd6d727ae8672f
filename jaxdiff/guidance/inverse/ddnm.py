"""DDNM: replace the part of each estimate that a measurement determines, and keep its null space.

    x̂_0' = A⁺ y + (I − A⁺A) x̂_0 = x̂_0 + A⁺ (y − A x̂_0),    A⁺ = Aᵀ (AAᵀ)⁻¹,

so that A x̂_0' = y. The noise follows from x_t = α x̂_0' + σ ε̂'. This is the noiseless method; the
noise of a noisy y enters the sample undiminished: for that see :func:`jaxdiff.solvers.ddnm_plus`.
"""

from jaxdiff.guidance.base import checked_model, with_data
from jaxdiff.guidance.inverse.conjugate_gradients import Tolerance, check_tolerance
from jaxdiff.guidance.inverse.measurement import check_measured, measure, solve_gram
from jaxdiff.guidance.inverse.operators import OperatorFn
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Real


def ddnm(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    operator: OperatorFn,
    y: Real[ArrayLike, "..."],
    tolerance: Tolerance = Tolerance(),
) -> DenoiseFn:
    """Denoising diffusion null-space model (DDNM), for measurements without noise.

    x̂_0' = x̂_0 + A⁺ (y − A x̂_0)

    Args:
        denoise_fn: the model.
        process: the forward process.
        operator: A, ``x -> A(x)``, row by row, linear, with y in its range.
        y: the measurement, one for all examples or one for each.
        tolerance: when the conjugate gradients on AAᵀ stop; for masks, averages over blocks and
            means of channels, whose AAᵀ is proportional to I, one step suffices.

    Returns:
        ``denoise_fn(x_t, t)`` of one forward pass of the network.

    Raises:
        InputError: if y is not finite, the tolerance is out of range, or the operator's output does
            not fit y.

    Example:
        >>> import jax.numpy as jnp
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> model = ddnm(exact, process, operator=lambda x: x[:, :1] + x[:, 1:], y=jnp.ones(1))
        >>> model(jnp.zeros((1, 2)), 1.0).x0  # 0 + A⁺ y
        Array([[0.5, 0.5]], dtype=float32)

    Reference: Wang, Yu & Zhang 2023, eq. 13.
    """
    y = check_measured(y, 0.0)
    check_tolerance(tolerance)
    model = checked_model("denoise_fn", denoise_fn)

    def guided(x_t: Array, t: ArrayLike) -> Estimate:
        estimate = model(x_t, t)
        found = measure(operator, estimate.x0, y)
        x0 = estimate.x0 + found.pull(solve_gram(found, 0.0, 1.0, tolerance))
        return with_data(estimate, x0, process, t)

    return guided
