"""DiffPIR: each estimate of the data is corrected by the proximal step of the measurement.

Half-quadratic splitting alternates the denoiser, whose noise has variance σ̃² = σ²/α² in units of
the data, and the minimum of

    ‖y − A x‖²/s² + (λ/σ̃²) ‖x − x̂_0‖²,
    x̂_0' = x̂_0 + σ²Aᵀ (s²λα²I + σ²AAᵀ)⁻¹ (y − A x̂_0),

the second form by Woodbury's identity, finite at both ends of time. The noise follows from
x_t = α x̂_0' + σ ε̂', and the published sampler is DDIM on that estimate, its ζ the square of our η.
"""

import jax.numpy as jnp

from jaxdiff.arrays import expand_to
from jaxdiff.checks import known_scalar
from jaxdiff.guidance.base import checked_model, with_data
from jaxdiff.guidance.inverse.conjugate_gradients import Tolerance, check_tolerance
from jaxdiff.guidance.inverse.measurement import check_measured, measure, solve_gram
from jaxdiff.guidance.inverse.operators import OperatorFn
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Real, Scalar


def diffpir(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    operator: OperatorFn,
    y: Real[ArrayLike, "..."],
    noise_std: Scalar,
    strength: Scalar = 10.0,
    tolerance: Tolerance = Tolerance(),
) -> DenoiseFn:
    """Denoising diffusion models for plug-and-play image restoration (DiffPIR).

    x̂_0' = argmin_x ‖y − A x‖²/s² + λ (α²/σ²) ‖x − x̂_0‖²

    No derivative of the network is needed.

    Args:
        denoise_fn: the model.
        process: the forward process.
        operator: A, ``x -> A(x)``, row by row; a nonlinear one is linearised at x̂_0.
        y: the measurement, one for all examples or one for each.
        noise_std: s, standard deviation of its noise, non-negative; at 0 it projects, as
            :func:`jaxdiff.guidance.inverse.ddnm` does.
        strength: λ, of the prior relative to the measurement, positive; published settings are
            between 1 and 25.
        tolerance: when the conjugate gradients on AAᵀ stop.

    Returns:
        ``denoise_fn(x_t, t)`` of one forward pass of the network.

    Raises:
        InputError: if noise_std is negative or strength not positive, or either is not finite, y is
            not finite, the tolerance is out of range, or the operator's output does not fit y.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VE(sigma_min=0.1, sigma_max=1.0)
        >>> exact = oracles.gaussian(process, jnp.zeros(1), jnp.zeros((1, 1)))  # x̂_0 = 0
        >>> model = diffpir(exact, process, operator=lambda x: x, y=jnp.ones(1), noise_std=1.0,
        ...                 strength=1.0)
        >>> model(jnp.ones((1, 1)), 1.0).x0  # halfway between 0 and y
        Array([[0.5]], dtype=float32)

    Reference: Zhu et al. 2023, eq. 12 and 13, and algorithm 1.
    """
    known_scalar("strength must be positive and finite", strength, 0, strict=True)
    y = check_measured(y, noise_std)
    check_tolerance(tolerance)
    model = checked_model("denoise_fn", denoise_fn)

    def guided(x_t: Array, t: ArrayLike) -> Estimate:
        estimate = model(x_t, t)
        found = measure(operator, estimate.x0, y)
        variance = process.sigma(t) ** 2
        ridge = jnp.asarray(noise_std) ** 2 * strength * process.alpha(t) ** 2
        change = found.pull(solve_gram(found, ridge, variance, tolerance))
        x0 = estimate.x0 + expand_to(variance, x_t).astype(x_t.dtype) * change
        return with_data(estimate, x0, process, t)

    return guided
