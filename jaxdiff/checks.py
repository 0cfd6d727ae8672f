"""L0: checks of what a caller passes, whose errors are one sentence: what it must be, what it got.

Numbers are checked where they are known; those that a JAX transformation hides always pass.
"""

import math
import operator
from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, ArrayLike, InputError, out_of


def known(values: ArrayLike) -> np.ndarray | None:
    """The numbers themselves, or None inside a transformation that hides them.

    Example:
        >>> known(jnp.ones(2)), jax.jit(lambda x: jnp.zeros(2 if known(x) is None else 3))(0.0)
        (array([1., 1.], dtype=float32), Array([0., 0.], dtype=float32))
    """
    return None if isinstance(values, jax.core.Tracer) else np.asarray(values)


def known_scalar(
    requirement: str, value: ArrayLike, low: float, high: float = math.inf, *, strict: bool = False
) -> float | None:
    """A finite number between two bounds, or None inside a transformation that hides it.

    Args:
        requirement: the first half of the error, "<name> must be <constraint>".
        value: the number to check.
        low: lower bound.
        high: upper bound.
        strict: whether the bounds themselves are excluded.

    Raises:
        InputError: if it is not such a number: ``requirement``, and the value.

    Example:
        >>> known_scalar("eta must be in [0, 1]", "a", 0, 1)
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: eta must be in [0, 1], got 'a'
    """
    number = known(value)
    if number is None:
        return None
    is_real = any(jnp.issubdtype(number.dtype, kind) for kind in (jnp.integer, jnp.floating))
    is_number = is_real and number.ndim == 0 and np.isfinite(number)
    if not is_number or not (low < number < high if strict else low <= number <= high):
        raise InputError(f"{requirement}, got {value if is_number else repr(value)}")
    return float(number)


def check_batch(name: str, x: Array) -> None:
    """Check that x is a batch ``[batch, ...]`` of floats with at least one example.

    In integers every step would be truncated.

    Raises:
        InputError: naming its dtype or its shape.
    """
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise InputError(f"{name} must be an array of floats, got {x.dtype}")
    if x.ndim < 2 or x.shape[0] == 0:
        raise InputError(f"{name} must be a batch of examples [batch, ...], got shape {x.shape}")


def is_count(number: object) -> bool:
    """Whether it is a positive integer; a float never is, whatever its value.

    Example:
        >>> is_count(3), is_count(3.0), is_count(0)
        (True, False, False)
    """
    try:
        return not isinstance(number, bool) and operator.index(number) >= 1  # type: ignore[arg-type]
    except TypeError:
        return False


def check_known(
    holds: Callable[..., ArrayLike], *values: ArrayLike, requirement: str, got: str = "{}"
) -> None:
    """Check a condition on values; those that a transformation hides pass.

    Args:
        holds: the condition, a function of one NumPy array per value, true everywhere if met.
        *values: the values to check; if any is hidden, none is checked.
        requirement: the first half of the error, "<name> must be <constraint>".
        got: how the error shows the values, as a template of ``str.format``.

    Raises:
        InputError: if the condition does not hold: ``requirement``, and the values.

    Example:
        >>> text = "low must be less than high"
        >>> check_known(lambda low, high: low < high, 1, 0, requirement=text, got="{} and {}")
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: low must be less than high, got 1 and 0
    """
    numbers = [known(value) for value in values]
    if not (any(number is None for number in numbers) or np.all(holds(*numbers))):
        raise InputError(f"{requirement}, got {got.format(*values)}")


def check_count(requirement: str, number: object) -> None:
    """Check that a number is a positive integer.

    Raises:
        InputError: if it is not: ``requirement``, and the number.

    Example:
        >>> check_count("max_steps must be a positive integer", 0)
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: max_steps must be a positive integer, got 0
    """
    if not is_count(number):
        raise InputError(f"{requirement}, got {number}")


def check_one_of(**options: tuple[object, Any]) -> None:
    """Check that each option is a value of its ``Literal``: ``option=(value, Literal[...])``.

    Raises:
        InputError: listing the allowed values.

    Example:
        >>> from typing import Literal
        >>> check_one_of(order=("2nd", Literal["1st", "second"]))
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: order must be one of 1st, second, got '2nd'
    """
    for option, (got, literal) in options.items():
        if got not in get_args(literal):
            raise InputError(f"{option} must be one of {out_of(got, get_args(literal))}")


def finite_array(name: str, x: ArrayLike) -> np.ndarray:
    """Convert to float64, and check that every value is finite.

    Args:
        name: the name of the argument, for the error.
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
        raise InputError(f"{name} must be an array of real numbers, got complex numbers")
    try:
        array = np.asarray(x, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{name} must be an array of real numbers: {error}") from error
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise InputError(
            f"{name} must be finite, got {bad} NaN or infinite values out of {array.size}"
        )
    return array
