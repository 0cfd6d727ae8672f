"""L8: one number that tells whether a state is, to the bit, the one that was saved."""

from collections import defaultdict

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, PyTree

ODD = 0x9E3779B1
"""An odd number near 2³² divided by the golden ratio, whose multiples are spread evenly."""


def fingerprint(tree: PyTree) -> Array:
    """Add up the words of all leaves, each times an odd number of its own, modulo 2³².

    A change of any one word changes the sum, since odd numbers have an inverse modulo 2³². Integers
    add up to the same in any order, so that the number does not depend on the layout over devices.

    Args:
        tree: arrays of numbers and keys.

    Returns:
        uint32, ``[]``.

    Example:
        >>> a = fingerprint({"w": jnp.array([1.0, 2.0])})
        >>> bool(a == fingerprint({"w": jnp.array([2.0, 1.0])}))
        False
    """
    alike = defaultdict(list)
    for index, leaf in enumerate(jax.tree.leaves(tree)):
        words = _words(leaf)
        alike[words.shape].append((index, words))
    total = jnp.zeros((), jnp.uint32)
    for shape, leaves in alike.items():  # one sum of all, for which XLA compiles one loop
        within = jnp.zeros(shape, jnp.uint32)
        for axis in range(len(shape)):
            within = within * np.uint32(ODD) + jax.lax.broadcasted_iota(jnp.uint32, shape, axis)
        terms = jnp.zeros(shape, jnp.uint32)
        for index, words in leaves:
            start = np.uint32((index + 1) * ODD ** len(shape) % 2**32)
            terms += words * (_mixed(start + within) | np.uint32(1))
        total += jnp.sum(terms, dtype=jnp.uint32)
    return total


def _words(leaf: Array) -> Array:
    """The bits of a leaf as 32-bit words; smaller numbers fill one each."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    if leaf.dtype == bool:
        return leaf.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[leaf.dtype.itemsize]
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def _mixed(place: Array) -> Array:
    """Scatter consecutive numbers over all of 32 bits."""
    place = (place ^ (place >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    return place ^ (place >> np.uint32(13))
