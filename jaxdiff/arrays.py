"""L0: array helpers used everywhere.

Broadcasting is always explicit (the tests run with ``jax_numpy_rank_promotion="raise"``), and
square roots of variances have a finite slope at zero.
"""

import math

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array, ArrayLike, Float, Key, Keys, PerEntry, Real, Shaped

VARIANCE_FLOOR = 1e-30
"""Added under the root of every variance: σ(0) is 1e-15, so 1/σ and log σ stay finite."""


ALPHA_FLOOR = 1e-12
"""At or below this α a sample carries no signal, as at the end of a chain whose last β is 1."""
SIGMA_FLOOR = 1e-10
"""At or below this σ the estimate of the noise is meaningless, and a last step has order 1."""


def expand_to(
    t: PerEntry, x: Shaped[Array, "batch *event"]
) -> Shaped[Array, ""] | Shaped[Array, "batch *#event"]:
    """Append axes to ``t`` until it broadcasts against ``x``.

    Returns:
        ``t`` unchanged if it is a scalar, else with the rank of ``x``.

    Example:
        >>> expand_to(jnp.ones(4), jnp.ones((4, 8, 8, 1))).shape
        (4, 1, 1, 1)
    """
    t = jnp.asarray(t)
    return t if t.ndim == 0 else t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def sum_events(x: Float[Array, "batch *event"]) -> Float[Array, "batch"]:
    """Sum over every axis but the first.

    Example:
        >>> sum_events(jnp.ones((4, 8, 8, 1)))
        Array([64., 64., 64., 64.], dtype=float32)
    """
    return jnp.sum(x.reshape(x.shape[0], math.prod(x.shape[1:])), axis=1)


def normal(key: Key | Keys, x: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    """Standard normal numbers in the shape and dtype of ``x``.

    Args:
        key: randomness; or one key per example, so that the numbers of an example do not depend on
            the other examples, nor on the device.
        x: gives the shape and dtype.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> whole, half = normal(keys, jnp.ones((4, 3))), normal(keys[2:], jnp.ones((2, 3)))
        >>> bool((whole[2:] == half).all())
        True
    """
    if is_per_example(key):
        return jax.vmap(lambda k: jax.random.normal(k, x.shape[1:], x.dtype))(key)
    return jax.random.normal(key, x.shape, x.dtype)


def is_per_example(key: Key | Keys) -> bool:
    """Whether there is one key per example, rather than one for all."""
    return jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1


def std_of(variance: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
    """Square root with a floor: √(variance + 1e-30), finite in value and in slope at zero.

    A plain root has an infinite slope at zero, which turns a vanishing cotangent into NaN.

    Example:
        >>> import jax
        >>> bool(jnp.isfinite(jax.grad(std_of)(0.0)))
        True
    """
    return jnp.sqrt(jnp.asarray(variance) + VARIANCE_FLOOR)
