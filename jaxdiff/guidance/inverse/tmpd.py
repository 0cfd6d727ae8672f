"""Tweedie moment projected diffusion: the likelihood of y given x_t with a diagonal covariance.

As in :mod:`jaxdiff.guidance.inverse.mmps`, y given x_t has the covariance s²I + A V Aᵀ with
V = (σ²/α) ∂x̂_0/∂x_t; here A V Aᵀ is replaced by a diagonal matrix, so that no system is solved:

    ∇ log p(y | x_t) = Jᵀ Aᵀ (y − A x̂_0)/(s² + d),    d = diag(A V Aᵀ)  or  d = A V Aᵀ 1.

The diagonal takes one product with the Jacobian per measured number, the sums of the rows only one;
the two agree where A V Aᵀ is diagonal. Sums of rows may be negative, where the measured numbers
are anticorrelated: they count as 0.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxdiff.arrays import expand_to
from jaxdiff.checks import check_one_of
from jaxdiff.guidance.base import data_gain, with_score
from jaxdiff.guidance.inverse.measurement import (
    Linearised,
    Measurement,
    check_measured,
    linearise,
    measure,
)
from jaxdiff.guidance.inverse.operators import OperatorFn
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Real, Scalar

Covariance = Literal["diagonal", "row_sum"]


def tmpd(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    operator: OperatorFn,
    y: Real[ArrayLike, "..."],
    noise_std: Scalar,
    covariance: Covariance = "row_sum",
) -> DenoiseFn:
    """Tweedie moment projected diffusions (TMPD), diagonal or by sums of rows.

    g = Jᵀ Aᵀ (y − A x̂_0)/(s² + d),    d = diag(A V Aᵀ) or A V Aᵀ 1

    Args:
        denoise_fn: the model.
        process: the forward process.
        operator: A, ``x -> A(x)``, row by row; a nonlinear one is linearised at x̂_0.
        y: the measurement, one for all examples or one for each.
        noise_std: s, standard deviation of its noise, positive.
        covariance: "row_sum" takes one more backward pass of the network; "diagonal" one per
            measured number, for small measurements.

    Returns:
        ``denoise_fn(x_t, t)`` of one forward pass of the network.

    Raises:
        InputError: if covariance is neither of these, noise_std is not positive and finite, y is
            not finite, or the operator's output does not fit y.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> model = tmpd(exact, process, operator=lambda x: x, y=jnp.ones(2), noise_std=1.0)
        >>> model(jnp.zeros((1, 2)), 1.0).x0.round(3)  # y/2, exact as V is diagonal
        Array([[0.5, 0.5]], dtype=float32)

    Reference: Boys et al. 2023 (TMLR 2024), section 3.
    """
    check_one_of(covariance=(covariance, Covariance))
    y = check_measured(y, noise_std, strict=True)

    def guided(x_t: Array, t: ArrayLike) -> Estimate:
        model = linearise(denoise_fn, x_t, t)
        found = measure(operator, model.estimate.x0, y)
        gain = expand_to(data_gain(process, t), x_t)
        spread = {"diagonal": _diagonal, "row_sum": _row_sums}[covariance](model, found, gain)
        variance = jnp.asarray(noise_std) ** 2 + jnp.maximum(spread, 0.0)
        score = model.pull(found.pull(found.residual / variance))
        return with_score(model.estimate, score, process, t)

    return guided


def _row_sums(model: Linearised, found: Measurement, gain: Array) -> Array:
    return found.push(gain * model.pull(found.pull(jnp.ones_like(found.residual))))


def _diagonal(model: Linearised, found: Measurement, gain: Array) -> Array:
    """The entries (A V Aᵀ)_jj, one after another."""
    shape = found.residual.shape
    dim = math.prod(shape[1:])

    def entry(j: Array) -> Array:
        unit = jax.nn.one_hot(j, dim, dtype=gain.dtype).reshape(1, *shape[1:])
        column = found.push(gain * model.pull(found.pull(jnp.broadcast_to(unit, shape))))
        return column.reshape(shape[0], dim)[:, j]

    return jax.lax.map(entry, jnp.arange(dim)).T.reshape(shape)
