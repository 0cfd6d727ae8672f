"""Conversion of labels, from files and from callers, to int32.

A table of numbers read from a CSV file has the classes 0, 1, 2 as floats, which are accepted.
Labels that a conversion would change (a fraction, a class beyond int32) or invent (Booleans, text)
are refused.
"""

import numpy as np

from jaxdiff.typing import ArrayLike, InputError

LARGEST = 2**31 - 2
"""The largest label: the number of classes, one more, is an int32 too."""


def whole_labels(name: str, label: ArrayLike, *, num_classes: int | None = None) -> np.ndarray:
    """Convert labels to int32 if that changes none of them.

    Args:
        name: what the caller calls them, for the error.
        label: numbers of any shape and type.
        num_classes: how many classes there are; by default as many as int32 can represent.

    Returns:
        int32, of the same shape.

    Raises:
        InputError: if one is not a whole number from 0 to ``num_classes`` − 1.

    Example:
        >>> whole_labels("label", [2.0, 0.0])
        array([2, 0], dtype=int32)
    """
    most = LARGEST if num_classes is None else num_classes - 1
    requirement = f"{name} must be whole numbers from 0 to {most}"
    try:
        array = np.asarray(label)
    except (TypeError, ValueError) as error:  # a list of lists of several lengths
        raise InputError(f"{requirement}, got {label!r}") from error
    if array.dtype.kind not in "iuf":
        got = f"an array of type {array.dtype}" if array.ndim else repr(label)
        raise InputError(f"{requirement}, got {got}")
    fits = (array >= 0) & (array <= most) & (array == np.floor(array))
    if not fits.all():
        raise InputError(f"{requirement}, got {array[~fits].ravel()[0]}")
    return array.astype(np.int32)
