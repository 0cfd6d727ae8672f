"""L0: what a caller can get wrong, checked alike everywhere: one sentence says what it got.

Numbers can be checked where they are there; inside a transformation that hides them they pass.
"""

import math
import operator
from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, ArrayLike, InputError, out_of


def known(values: ArrayLike) -> np.ndarray | None:
    """The numbers themselves, or None inside a transformation that hides them.

    What a caller got wrong can only be said of numbers that are there.

    Example:
        >>> known(jnp.ones(2)), jax.jit(lambda x: jnp.zeros(2 if known(x) is None else 3))(0.0)
        (array([1., 1.], dtype=float32), Array([0., 0.], dtype=float32))
    """
    return None if isinstance(values, jax.core.Tracer) else np.asarray(values)


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


def check_known(
    holds: Callable[..., ArrayLike], *values: ArrayLike, says: str, got: str = "{}"
) -> None:
    """Refuse values for which something does not hold; what a transformation hides passes.

    Args:
        holds: of NumPy arrays, one for each value, to what must be true everywhere.
        *values: to be looked at; if any is hidden, none is.
        says: what they must be.
        got: how they are told, as a template of ``str.format``.

    Raises:
        InputError: with what ``says`` says, and the values.

    Example:
        >>> takes = "clip takes low < high"
        >>> check_known(lambda low, high: low < high, 1, 0, says=takes, got="low={}, high={}")
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: clip takes low < high, got low=1, high=0
    """
    numbers = [known(value) for value in values]
    if not (any(number is None for number in numbers) or np.all(holds(*numbers))):
        raise InputError(f"{says}, got {got.format(*values)}")


def check_count(says: str, number: object) -> None:
    """Refuse what is no whole number of at least 1.

    Raises:
        InputError: with what ``says`` says of it.

    Example:
        >>> check_count("max_steps is at least 1", 0)
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: max_steps is at least 1, got 0
    """
    if not is_count(number):
        raise InputError(f"{says}, got {number}")


def check_one_of(**options: tuple[str, Collection[str]]) -> None:
    """Refuse an option that is none of those there are: ``option=(got, those there are)``.

    Raises:
        InputError: naming them.

    Example:
        >>> check_one_of(order=("2nd", ["1st", "second"]))
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: order must be one of 1st, second, got '2nd'
    """
    for option, (got, there) in options.items():
        if got not in there:
            raise InputError(f"{option} must be one of {out_of(got, there)}")


def finite_array(name: str, x: ArrayLike) -> np.ndarray:
    """Convert to float64, or say why not.

    Args:
        name: what the caller calls it, for the error.
        x: NumPy or JAX array, any shape.

    Returns:
        ``x`` in float64.

    Raises:
        InputError: if ``x`` is not of real numbers or not finite.

    Example:
        >>> finite_array("x", np.arange(3)).dtype
        dtype('float64')
    """
    if np.iscomplexobj(x):
        raise InputError(f"{name} must be an array of real numbers, got complex ones")
    try:
        array = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of real numbers, got {error}") from error
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise InputError(f"{name} must be finite, got {bad} NaN or infinite of {array.size} values")
    return array
