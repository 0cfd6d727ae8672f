"""L0: the array helpers that everything else leans on.

Broadcasting is always spelled out (the tests run with ``jax_numpy_rank_promotion="raise"``), and
square roots of variances keep a finite slope at zero.
"""

import math
import operator

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, ArrayLike, InputError, Key

VARIANCE_FLOOR = 1e-30
"""Added under the root of every variance: σ(0) is 1e-15, so 1/σ and log σ stay finite."""


SIGNALLESS = 1e-12
"""α up to which a sample holds no signal, as at the end of a chain whose last β is 1."""
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


def check_batch(name: str, x: Array) -> None:
    """Refuse what is not a batch ``[batch, ...]`` of floats with an example in it.

    In integers every step would be truncated; of no example there is nothing to compute.

    Raises:
        InputError: naming its dtype or its shape.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{name} is an array of floats, got {x.dtype}")
    if x.ndim < 2 or x.shape[0] == 0:
        raise InputError(f"{name} is a batch of examples, [batch, ...], got shape {x.shape}")


def known_scalar(
    says: str, value: ArrayLike, low: float, high: float = math.inf, *, strict: bool = False
) -> float | None:
    """A finite number between two others, or None inside a transformation that hides it.

    Args:
        says: what it is, and between which.
        value: to be looked at.
        low: the least that it may be.
        high: the most.
        strict: whether these two are themselves refused.

    Raises:
        InputError: if it is none, with what ``says`` says of it.

    Example:
        >>> known_scalar("eta lies in [0, 1]", "a", 0, 1)
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: eta lies in [0, 1], got 'a'
    """
    number = known(value)
    if number is None:
        return None
    is_real = any(jnp.issubdtype(number.dtype, kind) for kind in (jnp.integer, jnp.floating))
    is_number = is_real and number.ndim == 0 and np.isfinite(number)
    if not is_number or not (low < number < high if strict else low <= number <= high):
        raise InputError(f"{says}, got {value if is_number else repr(value)}")
    return float(number)


def is_count(number: object) -> bool:
    """Whether it is a whole number of at least 1; a float is none, whatever it holds.

    Example:
        >>> is_count(3), is_count(3.0), is_count(0)
        (True, False, False)
    """
    try:
        return not isinstance(number, bool) and operator.index(number) >= 1  # type: ignore[arg-type]
    except TypeError:
        return False


def known(values: ArrayLike) -> np.ndarray | None:
    """The numbers themselves, or None inside a transformation that hides them.

    What a caller got wrong can only be said of numbers that are there.

    Example:
        >>> known(jnp.ones(2)), jax.jit(lambda x: jnp.zeros(2 if known(x) is None else 3))(0.0)
        (array([1., 1.], dtype=float32), Array([0., 0.], dtype=float32))
    """
    return None if isinstance(values, jax.core.Tracer) else np.asarray(values)
