"""Conjugate gradients for a batch of symmetric systems, each solved to its own tolerance.

Every example has its own step lengths and stops on its own, so that its solution does not depend,
by a single bit, on its batch mates. The solution is differentiable in both modes, since its
derivative is another system with the same matrix.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.arrays import expand_to, sum_events
from jaxdiff.checks import check_count, known_scalar
from jaxdiff.typing import Array, Float, Scalar


class Tolerance(NamedTuple):
    """When conjugate gradients stop."""

    relative: Scalar = 1e-6  # ‖b − M u‖ over ‖b‖
    max_steps: int = 100


class _State(NamedTuple):
    u: Array
    residual: Array
    direction: Array
    norm2: Array  # ‖residual‖² per example, 0 once it has stopped
    steps: Array


def solve(
    product: Callable[[Float[Array, "batch *event"]], Float[Array, "batch *event"]],
    b: Float[Array, "batch *event"],
    tolerance: Tolerance,
) -> Float[Array, "batch *event"]:
    """Solve M u = b for every example.

    An example stops at its tolerance, after ``max_steps``, or where M is not positive along its
    direction, as that of an inexact model may be; what it has found by then is its solution.

    Args:
        product: ``u -> M u``, M symmetric, positive semi-definite, row by row.
        b: right-hand sides.
        tolerance: when to stop.

    Example:
        >>> solve(lambda u: u * jnp.array([[1.0, 4.0]]), jnp.ones((1, 2)), Tolerance()).round(4)
        Array([[1.  , 0.25]], dtype=float32)

    Reference: Hestenes & Stiefel 1952.
    """

    def conjugate_gradients(product: Callable[[Array], Array], b: Array) -> Array:
        target = sum_events(b**2) * jnp.asarray(tolerance.relative, b.dtype) ** 2

        def unfinished(state: _State) -> Array:
            return jnp.any(state.norm2 > 0) & (state.steps < tolerance.max_steps)

        def step(state: _State) -> _State:
            u, residual, direction, norm2, steps = state
            image = product(direction)
            curvature = sum_events(direction * image)
            active = (norm2 > 0) & (curvature > 0)
            length = jnp.where(active, norm2 / jnp.where(active, curvature, 1.0), 0.0)
            u = u + expand_to(length, u) * direction
            residual = residual - expand_to(length, u) * image
            new = sum_events(residual**2)
            ratio = jnp.where(active, new / jnp.where(active, norm2, 1.0), 0.0)
            direction = residual + expand_to(ratio, u) * direction
            return _State(
                u, residual, direction, jnp.where(active & (new > target), new, 0.0), steps + 1
            )

        norm2 = jnp.where(target > 0, sum_events(b**2), 0.0)
        first = _State(jnp.zeros_like(b), b, b, norm2, jnp.zeros((), int))
        return jax.lax.while_loop(unfinished, step, first).u

    return jax.lax.custom_linear_solve(product, b, conjugate_gradients, symmetric=True)


def check_tolerance(tolerance: Tolerance) -> None:
    """Check when conjugate gradients stop.

    Raises:
        InputError: if the relative tolerance is not in [0, 1), or max_steps < 1.
    """
    requirement = "tolerance.relative must be in (0, 1)"
    known_scalar(requirement, tolerance.relative, 0, 1, strict=True)
    check_count("tolerance.max_steps must be a positive integer", tolerance.max_steps)
