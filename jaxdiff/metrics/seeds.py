"""L7: the randomness of metrics: which subsets, which directions, which order.

It always comes from a seed that the caller states, so that a figure can be computed again.
"""

import operator

import numpy as np

from jaxdiff.typing import InputError

Seed = int | np.random.Generator
"""A seed, or a generator that the caller owns, which then advances."""


def generator(seed: Seed) -> np.random.Generator:
    """The generator of a seed; a generator is returned as it is.

    Args:
        seed: an integer of at least 0, or a generator.

    Raises:
        InputError: if it is neither.

    Example:
        >>> generator(0).integers(10, size=3)
        array([8, 6, 5])
        >>> generator(-1)
        Traceback (most recent call last):
            ...
        jaxdiff.typing.InputError: seed must be an integer of at least 0 or a Generator, got -1
    """
    if isinstance(seed, np.random.Generator):
        return seed
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if number < 0 or isinstance(seed, bool):
        raise InputError(f"seed must be an integer of at least 0 or a Generator, got {seed!r}")
    return np.random.default_rng(number)
