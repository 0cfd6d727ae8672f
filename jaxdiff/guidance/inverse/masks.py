"""Masks of what is known of an example, for :func:`jaxdiff.guidance.inverse.mask`."""

import math

import jax
import numpy as np

from jaxdiff.checks import known_scalar
from jaxdiff.typing import Bool, InputError, Key, Scalar


def box_mask(
    shape: tuple[int, ...], *, corner: tuple[int, ...], size: tuple[int, ...]
) -> Bool[np.ndarray, "*event"]:
    """A mask that is false in a box of space, in all channels, and true elsewhere.

    Args:
        shape: of an example, channels last.
        corner: first index of the box along each axis of space.
        size: its size along each.

    Raises:
        InputError: if the box is not inside of the example.

    Example:
        >>> box_mask((1, 4, 1), corner=(0, 1), size=(1, 2))[0, :, 0]
        array([ True, False, False,  True])
    """
    space = shape[:-1]
    inside = len(corner) == len(size) == len(space) and all(
        first >= 0 and first + extent <= whole
        for first, extent, whole in zip(corner, size, space, strict=True)
    )
    if not inside:
        raise InputError(f"the box must lie inside of {space}, got corner {corner}, size {size}")
    known = np.ones(shape, bool)
    known[tuple(slice(a, a + n) for a, n in zip(corner, size, strict=True))] = False
    return known


def random_mask(
    key: Key, shape: tuple[int, ...], *, fraction: Scalar
) -> Bool[np.ndarray, "*event"]:
    """A mask that is true at a fraction of random places of space, in all channels.

    Args:
        key: randomness.
        shape: of an example, channels last.
        fraction: of the places that are known, in (0, 1].

    Raises:
        InputError: if fraction is not in (0, 1].

    Example:
        >>> random_mask(jax.random.key(0), (4, 4, 3), fraction=0.25).sum()
        np.int64(12)
    """
    known_scalar("fraction must be in (0, 1]", fraction, 0, 1)
    places = math.prod(shape[:-1])
    count = round(places * float(np.asarray(fraction)))
    if count == 0:
        raise InputError(f"fraction must be in (0, 1] and keep a place, got {fraction}")
    order = np.asarray(jax.random.permutation(key, places))
    known = (order < count).reshape(*shape[:-1], 1)
    return np.broadcast_to(known, shape)
