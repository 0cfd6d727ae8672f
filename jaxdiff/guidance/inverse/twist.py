"""Twisting functions: approximations of log p(y | x_t) that are exact at the data.

:func:`jaxdiff.solvers.twisted` proposes along their gradient, and corrects for their error.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp

from jaxdiff.arrays import sum_events
from jaxdiff.checks import known_scalar
from jaxdiff.guidance.inverse.measurement import check_measured, measure
from jaxdiff.guidance.inverse.operators import OperatorFn
from jaxdiff.predictions import Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Float, PerExample, Real, Scalar

TwistFn = Callable[[Float[Array, "batch *event"], PerExample, Estimate], Float[Array, "batch"]]
"""``(x_t, t, estimate) -> log p̃(y | x_t)``, of the model's own estimate there."""


def gaussian_twist(
    process: Process,
    *,
    operator: OperatorFn,
    y: Real[ArrayLike, "..."],
    noise_std: Scalar,
    data_std: Scalar = 1.0,
) -> TwistFn:
    """Twisting function of a noisy measurement: y given x_t, with x_0 uncertain by its noise.

    p̃(y | x_t) = N(y; A(x̂_0), (s² + r²)I),    r² = σ²σ_d²/(α²σ_d² + σ²)

    At the data r is 0, which makes it the likelihood.

    Args:
        process: the forward process.
        operator: A, ``x -> A(x)``, row by row, linear or not.
        y: the measurement, one for all particles or one for each.
        noise_std: s, standard deviation of its noise, positive.
        data_std: σ_d, standard deviation of A(x_0): that of x_0 for an operator of norm 1.

    Returns:
        ``(x_t, t, estimate) -> log p̃(y | x_t)``.

    Raises:
        InputError: if noise_std or data_std is not positive and finite, or y is not finite.

    Reference: Wu et al. 2023, section 3.
    """
    known_scalar("data_std must be positive and finite", data_std, 0, strict=True)
    y = check_measured(y, noise_std, strict=True)

    def log_twist(x_t: Array, t: PerExample, estimate: Estimate) -> Array:
        residual = measure(operator, estimate.x0, y).residual
        spread = (process.alpha(t) * data_std) ** 2 + process.sigma(t) ** 2
        variance = jnp.asarray(noise_std) ** 2 + (process.sigma(t) * data_std) ** 2 / spread
        count = math.prod(residual.shape[1:])
        norm = -0.5 * count * jnp.log(2 * math.pi * variance)
        return norm - 0.5 * sum_events(residual**2) / variance

    return log_twist
