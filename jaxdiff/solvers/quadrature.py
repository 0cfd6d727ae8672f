"""Gauss–Legendre quadrature over one step, for the integrals of interpolated estimates.

A solver of high order replaces the model's estimate by the polynomial through earlier estimates,
and integrates it against the kernel of the linear part. Sixteen points give every such integral to
rounding, for steps of up to 20 in log SNR, whereas the closed forms in φ-functions cancel for short
steps.
"""

import math

import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, Float

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)
POINTS: np.ndarray = 0.5 * (_NODES + 1)
"""The quadrature points as fractions of the step, ``[16]``, in (0, 1)."""
WEIGHTS: np.ndarray = 0.5 * _WEIGHTS
"""Weights of the points, ``[16]``, with sum 1."""


def exponential_weights(width: Float[Array, ""]) -> Float[Array, "16"]:
    """Weights of ∫_0^1 k e^{−k(1−u)} (·) du, the kernel of an exponential integrator.

    Args:
        width: k, of either sign, the length of the step in log SNR.

    Returns:
        Weights with sum 1 − e^{−k}.

    Example:
        >>> round(float(jnp.sum(exponential_weights(jnp.array(1.0)))), 4)  # 1 − 1/e
        0.6321
    """
    points = jnp.asarray(POINTS, width.dtype)
    return jnp.asarray(WEIGHTS, width.dtype) * width * jnp.exp(-width * (1 - points))


def slope_weight(width: Float[Array, ""]) -> Float[Array, ""]:
    """∫_0^1 k e^{−k(1−u)} u du = 1 − (1 − e^{−k})/k, the weight of a slope; about k/2.

    Args:
        width: k, of either sign.
    """
    return jnp.sum(exponential_weights(width) * jnp.asarray(POINTS, width.dtype))


def lagrange(
    nodes: list[Float[Array, ""]], points: Float[Array, "points"]
) -> list[Float[Array, "points"]]:
    """Lagrange basis polynomials: the j-th is 1 at node j and 0 at the others.

    Args:
        nodes: distinct numbers.
        points: where the polynomials are evaluated.

    Returns:
        One array for each node, with sum 1.

    Example:
        >>> [p.tolist() for p in lagrange([jnp.array(0.0), jnp.array(1.0)], jnp.array([0.25]))]
        [[0.75], [0.25]]
    """

    def basis(j: int) -> Array:
        others = [node for k, node in enumerate(nodes) if k != j]
        return math.prod(
            ((points - node) / (nodes[j] - node) for node in others), start=jnp.ones_like(points)
        )

    return [basis(j) for j in range(len(nodes))]
