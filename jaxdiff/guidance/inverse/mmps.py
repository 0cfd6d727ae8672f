"""Moment matching posterior sampling: the likelihood of y given x_t with the model's covariance.

If x_0 given x_t were Gaussian, its covariance would be V = (σ²/α) J with J = ∂x̂_0/∂x_t, by the
second-order formula of Tweedie, and y = A x_0 + s n given x_t would be N(A x̂_0, s²I + A V Aᵀ):

    ∇ log p(y | x_t) = Jᵀ Aᵀ (s²I + A V Aᵀ)⁻¹ (y − A x̂_0).

For Gaussian data both are exact: the guided model is E[x_0 | x_t, y]. Products with V are products
with Jᵀ, from one forward pass of the network; conjugate gradients solve the system.
"""

import jax.numpy as jnp

from jaxdiff.arrays import expand_to
from jaxdiff.guidance.base import data_gain, with_score
from jaxdiff.guidance.inverse.conjugate_gradients import Tolerance, check_tolerance, solve
from jaxdiff.guidance.inverse.measurement import check_measured, linearise, measure
from jaxdiff.guidance.inverse.operators import OperatorFn
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Real, Scalar


def mmps(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    operator: OperatorFn,
    y: Real[ArrayLike, "..."],
    noise_std: Scalar,
    tolerance: Tolerance = Tolerance(),
) -> DenoiseFn:
    """Moment matching posterior sampling, exact for Gaussian data and linear measurements.

    x̂_0' = x̂_0 + V Aᵀ (s²I + A V Aᵀ)⁻¹ (y − A x̂_0),    V = (σ²/α) ∂x̂_0/∂x_t

    A nonlinear operator is linearised at x̂_0. The Jacobian of a network is only nearly symmetric:
    an example's iteration stops where its system is not positive.

    Args:
        denoise_fn: the model.
        process: the forward process.
        operator: A, ``x -> A(x)``, row by row, such as those of :mod:`jaxdiff.guidance.inverse`.
        y: the measurement, one for all examples or one for each.
        noise_std: s, standard deviation of its noise, non-negative.
        tolerance: when conjugate gradients stop; every step is a product with the network's
            Jacobian, the cost of a backward pass. The published settings stop after one to three.

    Returns:
        ``denoise_fn(x_t, t)`` of one forward pass of the network.

    Raises:
        InputError: if noise_std is negative or not finite, y is not finite, the tolerance is out of
            range, or the operator's output does not fit y.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> from jaxdiff.guidance import inverse
        >>> process, first = processes.VP(), inverse.matrix(jnp.array([[1.0, 0.0]]))
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.ones((2, 2)))  # both values equal
        >>> model = mmps(exact, process, operator=first, y=jnp.ones(1), noise_std=1.0)
        >>> model(jnp.zeros((1, 2)), 1.0).x0.round(3)  # about N(y/2, …), as x_1 is noise
        Array([[0.5, 0.5]], dtype=float32)

    Reference: Rozet et al. 2024 (learning diffusion priors from observations by expectation
    maximization), section 4.2.
    """
    y = check_measured(y, noise_std)
    check_tolerance(tolerance)

    def guided(x_t: Array, t: ArrayLike) -> Estimate:
        estimate, pull = linearise(denoise_fn, x_t, t)
        found = measure(operator, estimate.x0, y)
        gain = expand_to(data_gain(process, t), x_t)
        variance = jnp.asarray(noise_std, found.residual.dtype) ** 2

        def covariance(u: Array) -> Array:
            return variance * u + found.push(gain * pull(found.pull(u)))

        u = solve(covariance, found.residual, tolerance)
        return with_score(estimate, pull(found.pull(u)), process, t)

    return guided
