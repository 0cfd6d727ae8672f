"""L0: the array helpers that everything else leans on.

Broadcasting is always spelled out (the tests run with ``jax_numpy_rank_promotion="raise"``), and
square roots of variances keep a finite slope at zero.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, ArrayLike, InputError, Key

VARIANCE_FLOOR = 1e-30
"""Added under the root of every variance: σ(0) is 1e-15, so 1/σ and log σ stay finite."""


NOISELESS = 1e-10
"""Below this σ the estimate of the noise means nothing, and a last step is of first order."""


def expand_to(t: ArrayLike, x: Array) -> Array:
    """Append axes to ``t`` until it broadcasts against ``x``.

    Args:
        t: a scalar, or ``[batch]``.
        x: ``[batch, ...]``.

    Returns:
        ``t`` unchanged if it is a scalar, else ``[batch, 1, ..., 1]`` with the rank of ``x``.

    Example:
        >>> expand_to(jnp.ones(4), jnp.ones((4, 8, 8, 1))).shape
        (4, 1, 1, 1)
    """
    t = jnp.asarray(t)
    return t if t.ndim == 0 else t.reshape(t.shape + (1,) * (x.ndim - t.ndim))


def sum_events(x: Array) -> Array:
    """Sum over every axis but the first: ``[batch, ...] -> [batch]``.

    Example:
        >>> sum_events(jnp.ones((4, 8, 8, 1)))
        Array([64., 64., 64., 64.], dtype=float32)
    """
    return jnp.sum(x.reshape(x.shape[0], math.prod(x.shape[1:])), axis=1)


def normal(key: Key, x: Array) -> Array:
    """Standard normal numbers in the shape and dtype of ``x``.

    Args:
        key: randomness; or one key per example ``[batch]``, so that the numbers of an example do
            not depend on how many others there are, nor on which device they are.
        x: ``[batch, ...]``.

    Returns:
        ``[batch, ...]``.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 4)
        >>> whole, half = normal(keys, jnp.ones((4, 3))), normal(keys[2:], jnp.ones((2, 3)))
        >>> bool((whole[2:] == half).all())
        True
    """
    if jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 1:
        return jax.vmap(lambda k: jax.random.normal(k, x.shape[1:], x.dtype))(key)
    return jax.random.normal(key, x.shape, x.dtype)


def std_of(variance: ArrayLike) -> Array:
    """Square root with a floor: √(variance + 1e-30), finite in value and in slope at zero.

    A plain root has an infinite slope at zero, which multiplies a vanishing cotangent to NaN.

    Example:
        >>> import jax
        >>> bool(jnp.isfinite(jax.grad(std_of)(0.0)))
        True
    """
    return jnp.sqrt(jnp.asarray(variance) + VARIANCE_FLOOR)


def check_floats(name: str, x: Array) -> None:
    """Refuse an array of integers, in which every step would be truncated.

    Raises:
        InputError: naming its dtype.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{name} is an array of floats, got {x.dtype}")


def known(values: ArrayLike) -> np.ndarray | None:
    """The numbers themselves, or None inside a transformation that hides them.

    What a caller got wrong can only be said of numbers that are there.

    Example:
        >>> known(jnp.ones(2)), jax.jit(lambda x: jnp.zeros(2 if known(x) is None else 3))(0.0)
        (array([1., 1.], dtype=float32), Array([0., 0.], dtype=float32))
    """
    return None if isinstance(values, jax.core.Tracer) else np.asarray(values)
