"""Pseudoinverse guidance: the likelihood of y given x_t with an isotropic covariance.

x_0 given x_t is taken as N(x̂_0, r²I), so that y = A x_0 + s n given x_t is N(A x̂_0, s²I + r²AAᵀ):

    ∇ log p(y | x_t) = Jᵀ Aᵀ (s²I + r²AAᵀ)⁻¹ (y − A x̂_0),    J = ∂x̂_0/∂x_t,    r² = σ²/(α² + σ²).

With s = 0 the middle is A⁺(y − A x̂_0)/r², hence the name. The r² is that of data N(0, I), for which
the method is exact. Nothing is divided by α or σ, whatever s is, in
(s²I + r²AAᵀ)⁻¹ = (α² + σ²) (s²(α² + σ²)I + σ²AAᵀ)⁻¹.
"""

import jax.numpy as jnp

from jaxdiff.arrays import expand_to
from jaxdiff.guidance.base import with_score
from jaxdiff.guidance.inverse.conjugate_gradients import Tolerance, check_tolerance
from jaxdiff.guidance.inverse.measurement import (
    check_measured,
    linearise,
    measure,
    solve_gram,
)
from jaxdiff.guidance.inverse.operators import OperatorFn
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Real, Scalar


def pigdm(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    operator: OperatorFn,
    y: Real[ArrayLike, "..."],
    noise_std: Scalar = 0.0,
    tolerance: Tolerance = Tolerance(),
) -> DenoiseFn:
    """Pseudoinverse-guided diffusion models (ΠGDM), exact for data N(0, I).

    g = Jᵀ Aᵀ (s²I + r²AAᵀ)⁻¹ (y − A x̂_0),    r² = σ²/(α² + σ²)

    Args:
        denoise_fn: the model.
        process: the forward process.
        operator: A, ``x -> A(x)``, row by row; a nonlinear one is linearised at x̂_0.
        y: the measurement, one for all examples or one for each.
        noise_std: s, standard deviation of its noise; 0 is the noiseless form.
        tolerance: when the conjugate gradients on AAᵀ stop; the network is evaluated once.

    Returns:
        ``denoise_fn(x_t, t)`` of one forward and one backward pass of the network.

    Raises:
        InputError: as :func:`jaxdiff.guidance.inverse.mmps`.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> from jaxdiff.guidance import inverse
        >>> process, first = processes.VP(), inverse.matrix(jnp.array([[1.0, 0.0]]))
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> model = pigdm(exact, process, operator=first, y=jnp.ones(1), noise_std=1.0)
        >>> model(jnp.zeros((1, 2)), 1.0).x0.round(3)  # y/2, as x_1 is noise
        Array([[0.5, 0. ]], dtype=float32)

    Reference: Song, Vahdat, Mardani & Kautz 2023, section 3.
    """
    y = check_measured(y, noise_std)
    check_tolerance(tolerance)

    def guided(x_t: Array, t: ArrayLike) -> Estimate:
        estimate, pull = linearise(denoise_fn, x_t, t)
        found = measure(operator, estimate.x0, y)
        variance = process.sigma(t) ** 2
        total = process.alpha(t) ** 2 + variance
        u = solve_gram(found, jnp.asarray(noise_std) ** 2 * total, variance, tolerance)
        return with_score(estimate, expand_to(total, x_t) * pull(found.pull(u)), process, t)

    return guided
