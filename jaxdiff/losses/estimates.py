"""An estimated mean with its standard error."""

from typing import NamedTuple

import jax.numpy as jnp

from jaxdiff.typing import Array, Float, InputError


class Mean(NamedTuple):
    """A mean and its standard error, in the same units."""

    value: Float[Array, "*shape"]
    std_error: Float[Array, "*shape"]


def mean_and_error(draws: Float[Array, "..."], axis: int = 0) -> Mean:
    """Mean over independent draws, with its standard error.

    Args:
        draws: at least two along ``axis``.
        axis: over which the mean is taken.

    Returns:
        ``Mean(value, std_error)``, without that axis.

    Raises:
        InputError: if there are fewer than two draws.

    Example:
        >>> value, std_error = mean_and_error(jnp.array([1.0, 3.0]))
        >>> float(value), float(std_error)  # s = √2, and √2/√2
        (2.0, 1.0)
    """
    count = draws.shape[axis]
    if count < 2:
        raise InputError(f"a standard error requires at least 2 draws, got {count}")
    return Mean(jnp.mean(draws, axis), jnp.std(draws, axis, ddof=1) / jnp.sqrt(1.0 * count))
