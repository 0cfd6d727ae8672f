"""L7: inputs of every metric: finite float64 features, the same number of them in both sets.

An event of any shape is one point of R^d, where d is its number of entries: ``[n, ...] -> [n, d]``.
"""

import numpy as np

from jaxdiff.checks import finite_array
from jaxdiff.typing import ArrayLike, InputError


def as_features(name: str, x: ArrayLike, *, at_least: int = 1) -> np.ndarray:
    """Flatten the events: ``[n, ...] -> [n, d]``.

    Args:
        name: the name of the argument, for the error.
        x: ``[n, ...]``.
        at_least: minimum n.

    Returns:
        Features ``[n, d]``, float64.

    Raises:
        InputError: if ``x`` is a scalar, empty, not finite, or holds too few examples.

    Example:
        >>> as_features("x", np.zeros((5, 8, 8, 1))).shape
        (5, 64)
    """
    array = finite_array(name, x)
    if array.ndim == 0:
        raise InputError(f"{name} must be a batch [n, ...], got a scalar")
    if len(array) < at_least:
        raise InputError(f"{name} must hold at least {at_least} examples, got {len(array)}")
    if array.size == 0:
        raise InputError(f"{name} must have at least one feature, got shape {array.shape}")
    return array.reshape(len(array), -1)


def check_same_width(names: tuple[str, str], x: np.ndarray, y: np.ndarray) -> None:
    """Raise InputError unless both sets ``[n, d]`` and ``[m, d]`` have the same d.

    Example:
        >>> check_same_width(("x", "y"), np.zeros((5, 2)), np.zeros((5, 3)))
        Traceback (most recent call last):
        jaxdiff.typing.InputError: x and y must have the same number of features, got 2 and 3
    """
    if x.shape[1] != y.shape[1]:
        raise InputError(
            f"{names[0]} and {names[1]} must have the same number of features, "
            f"got {x.shape[1]} and {y.shape[1]}"
        )
