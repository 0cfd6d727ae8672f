"""Bytes to floats and back.

A byte b ∈ {0, ..., 255} stands for low + (high − low)·b/255, so that 0 is low and 255 is high.
Uniform dequantisation spreads it over its own 256th of the range instead,
low + (high − low)·(b + u)/256 with u uniform on [0, 1), which gives images a density: the
probability of a byte under a model is the mass that the density has on the byte's interval.
"""

import numpy as np

from jaxdiff.typing import ArrayLike, InputError

Range = tuple[float, float]
SYMMETRIC: Range = (-1.0, 1.0)


def to_floats(images: np.ndarray, value_range: Range = SYMMETRIC) -> np.ndarray:
    """Map bytes onto the range: low + (high − low)·b/255.

    Args:
        images: uint8, any shape.
        value_range: ``(low, high)``, what 0 and 255 become.

    Returns:
        float32, of the same shape.

    Raises:
        InputError: the images are not bytes, or the range is not increasing.

    Example:
        >>> to_floats(np.array([0, 51, 255], np.uint8), (0.0, 1.0)).tolist()
        [0.0, 0.20000000298023224, 1.0]
    """
    table = levels(value_range)
    if images.dtype != np.uint8:
        raise InputError(f"pixels must be uint8, got {images.dtype}")
    return table.take(images)


def levels(value_range: Range = SYMMETRIC) -> np.ndarray:
    """Tabulate the floats of the 256 bytes, each correctly rounded: both ends are exact.

    Args:
        value_range: ``(low, high)``.

    Returns:
        float32 ``[256]``.

    Raises:
        InputError: the range is not increasing.
    """
    return np.linspace(*check_range(value_range), 256).astype(np.float32)


def to_uint8(
    x: ArrayLike, value_range: Range = SYMMETRIC, *, dequantized: bool = False
) -> np.ndarray:
    """Map the range onto bytes, clipped and rounded: the exact inverse of ``to_floats``.

    Args:
        x: floats, any shape; values outside the range are clipped to it.
        value_range: ``(low, high)``, the floats of 0 and 255.
        dequantized: invert ``dequantize`` instead, where each byte owns a 256th of the range.

    Returns:
        uint8, of the same shape.

    Raises:
        InputError: the range is not increasing.

    Example:
        >>> to_uint8(np.array([-2.0, -1.0, 0.01, 1.0, 7.0])).tolist()
        [0, 0, 129, 255, 255]
    """
    low, high = check_range(value_range)
    unit = (np.asarray(x, np.float32) - low) / (high - low)
    number = np.floor(unit * 256.0) if dequantized else np.rint(unit * 255.0)
    return np.clip(number, 0.0, 255.0).astype(np.uint8)


def check_range(value_range: Range) -> Range:
    """Return ``(low, high)`` as floats, or raise InputError if it is not finite and increasing."""
    low, high = value_range
    largest = float(np.finfo(np.float32).max)
    if not -largest <= low < high <= largest:
        raise InputError(
            f"value_range must be (low, high), finite in float32, with low < high, got "
            f"{tuple(value_range)}"
        )
    return float(low), float(high)
