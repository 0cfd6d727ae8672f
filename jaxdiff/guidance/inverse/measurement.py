"""A measurement at an estimate of the data: what is left to explain, and the operator's derivative.

Every method here guides a model by r = y − A(x̂_0) and by products with A' and its transpose, the
derivative of the operator at x̂_0; for a linear operator A' is A itself.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import expand_to
from jaxdiff.checks import check_known, known_scalar
from jaxdiff.guidance.base import checked_model
from jaxdiff.guidance.inverse.conjugate_gradients import Tolerance, solve
from jaxdiff.guidance.inverse.operators import OperatorFn
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.typing import Array, ArrayLike, Float, InputError, PerExample, Real, Scalar, Shaped


class Measurement(NamedTuple):
    """At an estimate of the data."""

    residual: Float[Array, "batch *measured"]  # y − A(x̂_0)
    push: Callable[[Array], Array]  # v -> A' v
    pull: Callable[[Array], Array]  # u -> A'ᵀ u


class Linearised(NamedTuple):
    """A model at x_t, evaluated once, with its derivative."""

    estimate: Estimate
    pull: Callable[[Array], Array]  # v -> Jᵀ v, J the derivative of x̂_0 in x_t


def measure(
    operator: OperatorFn, x0: Float[Array, "batch *event"], y: Shaped[Array, "..."]
) -> Measurement:
    """Compare an estimate of the data with a measurement.

    Args:
        operator: ``x -> A(x)``, row by row.
        x0: estimate of the data.
        y: the measurement, one for all examples or one for each.

    Raises:
        InputError: if the operator's output does not fit y.

    Example:
        >>> found = measure(lambda x: 2 * x[:, :1], jnp.ones((1, 2)), jnp.array([5.0]))
        >>> found.residual, found.pull(jnp.ones((1, 1)))
        (Array([[3.]], dtype=float32), Array([[2., 0.]], dtype=float32))
    """
    value, push = jax.linearize(operator, x0)
    if y.shape not in (value.shape, value.shape[1:]):
        raise InputError(
            f"operator must return y's shape, {y.shape}, for each example or for the batch, got "
            f"shape {value.shape} for {x0.shape[0]} examples"
        )
    transpose = jax.linear_transpose(push, x0)
    residual = jnp.broadcast_to(y, value.shape).astype(value.dtype) - value
    return Measurement(
        residual,
        push=lambda v: push(v.astype(x0.dtype)),
        pull=lambda u: transpose(u.astype(value.dtype))[0],
    )


def linearise(
    denoise_fn: DenoiseFn, x_t: Float[Array, "batch *event"], t: PerExample
) -> Linearised:
    """Evaluate a model once, and keep what products with its Jacobian need.

    Args:
        denoise_fn: the model.
        x_t: noisy data.
        t: time.
    """

    def data_and_all(x: Array) -> tuple[Array, Estimate]:
        estimate = checked_model("denoise_fn", denoise_fn)(x, t)
        return estimate.x0, estimate

    x0, pull, estimate = jax.vjp(data_and_all, x_t, has_aux=True)
    return Linearised(estimate, lambda v: pull(v.astype(x0.dtype))[0])


def solve_gram(
    found: Measurement, ridge: PerExample, weight: PerExample, tolerance: Tolerance
) -> Float[Array, "batch *measured"]:
    """Solve (ridge · I + weight · A Aᵀ) u = y − A(x̂_0).

    Args:
        found: the measurement at an estimate.
        ridge: non-negative.
        weight: non-negative; where both are 0 the solution is 0.
        tolerance: when conjugate gradients stop.
    """
    r = found.residual
    a, b = (expand_to(jnp.asarray(each, r.dtype), r) for each in (ridge, weight))
    return solve(lambda u: a * u + b * found.push(found.pull(u)), r, tolerance)


def check_measured(
    y: Real[ArrayLike, "..."], noise_std: Scalar, *, strict: bool = False
) -> Real[Array, "..."]:
    """Check a measurement and the standard deviation of its noise.

    Args:
        y: the measurement.
        noise_std: standard deviation of its noise.
        strict: whether it must be positive.

    Returns:
        y as an array.

    Raises:
        InputError: if y is not finite, or noise_std is negative or not finite.
    """
    least = "positive" if strict else "non-negative"
    known_scalar(f"noise_std must be {least} and finite", noise_std, 0, strict=strict)
    check_known(lambda y: np.isfinite(y).all(), y, requirement="y must be finite", got="{}")
    return jnp.asarray(y)
