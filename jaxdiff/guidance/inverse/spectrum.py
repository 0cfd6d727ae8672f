"""The singular value decomposition of a linear operator, for methods that treat each axis apart.

A = U S Vᵀ: in the coordinates Vᵀx of the data, measurement i is s_i times coordinate i, plus noise.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from jaxdiff.guidance.inverse.operators import OperatorFn, matrix_of
from jaxdiff.typing import Array, Float, InputError, Shaped


class Spectrum(NamedTuple):
    """An operator along the axes V of the data, D of them."""

    values: Float[Array, "dim"]  # singular values; 0 where nothing is measured
    to_axes: Callable[[Array], Array]  # x -> Vᵀx [batch, D]
    from_axes: Callable[[Array], Array]  # the inverse
    measured: Callable[[Array, int], Array]  # y, batch -> S⁺Uᵀy [batch, D], 0 where unmeasured


def spectrum(operator: OperatorFn, shape: tuple[int, ...]) -> Spectrum:
    """Decompose a linear operator, by its matrix.

    Args:
        operator: ``x -> A(x)``, row by row, linear.
        shape: of an example, whose D numbers make matrices of D × D: up to some thousands.

    Returns:
        The decomposition; singular values below the rounding of the largest are 0.

    Example:
        >>> found = spectrum(lambda x: 3 * x[:, :1], (2,))
        >>> found.values
        Array([3., 0.], dtype=float32)
    """
    dim = math.prod(shape)
    whole = matrix_of(operator, shape)
    u, s, vt = jnp.linalg.svd(whole, full_matrices=True)
    least = jnp.finfo(s.dtype).eps * max(whole.shape) * jnp.max(s)
    s = jnp.where(s > least, s, 0.0)
    values = jnp.zeros(dim, s.dtype).at[: s.shape[0]].set(s)

    def to_axes(x: Array) -> Array:
        return jnp.matmul(x.reshape(x.shape[0], dim), vt.T, precision="highest")

    def from_axes(coordinates: Array) -> Array:
        flat = jnp.matmul(coordinates, vt, precision="highest")
        return flat.reshape(coordinates.shape[0], *shape)

    def measured(y: Shaped[Array, "..."], batch: int) -> Array:
        if y.size not in (whole.shape[0], batch * whole.shape[0]):
            raise InputError(
                f"y must have {whole.shape[0]} numbers, as the operator's output, for each example "
                f"or for the batch, got shape {y.shape} for {batch} examples"
            )
        along = jnp.matmul(y.reshape(-1, whole.shape[0]), u, precision="highest")
        along = along[:, : s.shape[0]] * jnp.where(s > 0, 1 / jnp.where(s > 0, s, 1.0), 0.0)[None]
        padded = jnp.zeros((along.shape[0], dim), along.dtype).at[:, : s.shape[0]].set(along)
        return jnp.broadcast_to(padded, (batch, dim))

    return Spectrum(values, to_axes, from_axes, measured)
