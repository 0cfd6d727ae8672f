"""L8: a checksum that tells whether a state is, bit for bit, the one that was saved."""

import collections

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.typing import Array, PyTree

ODD = 0x9E3779B1
"""An odd number near 2³² divided by the golden ratio, whose multiples spread evenly."""

STACKED = 2**14
"""Leaves of one shape and at most so many numbers are stacked, which compiles in an eighth of the
time; of larger ones the copy would take memory."""


def fingerprint(tree: PyTree) -> Array:
    """Add up the words of all leaves, each times an odd number of its own, modulo 2³².

    A change of any one word changes the sum, since odd numbers are invertible modulo 2³². The sum
    of integers does not depend on their order, nor therefore on the layout over devices.

    Args:
        tree: arrays of numbers and keys.

    Returns:
        uint32, ``[]``.

    Example:
        >>> a = fingerprint({"w": jnp.array([1.0, 2.0])})
        >>> bool(a == fingerprint({"w": jnp.array([2.0, 1.0])}))
        False
    """
    alike = collections.defaultdict(list)
    for number, leaf in enumerate(jax.tree.leaves(tree), start=1):
        alone = leaf.size > STACKED and number
        alike[leaf.shape, leaf.dtype, alone].append((number, leaf))
    total = jnp.zeros((), jnp.uint32)
    for members in alike.values():
        numbers, leaves = zip(*members, strict=True)
        total += _sum(np.array(numbers, np.uint32), jnp.stack(leaves))
    return total


def _sum(numbers: np.ndarray, leaves: Array) -> Array:
    """The sum of leaves of one shape and dtype, which have these numbers in the tree."""
    words = _words(leaves)
    place = jax.lax.broadcast_in_dim(numbers, words.shape, (0,))
    for axis in range(1, words.ndim):
        along = jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
        place = place * jnp.uint32(ODD) + along
    return jnp.sum(words * (_mixed(place) | 1), dtype=jnp.uint32)


def _words(leaf: Array) -> Array:
    """The bits of a leaf as 32-bit words; smaller numbers take one word each."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return jax.random.key_data(leaf)
    if leaf.dtype == bool:
        return leaf.astype(jnp.uint32)
    unsigned = {1: jnp.uint8, 2: jnp.uint16, 4: jnp.uint32, 8: jnp.uint32}[leaf.dtype.itemsize]
    return jax.lax.bitcast_convert_type(leaf, unsigned).astype(jnp.uint32)


def _mixed(place: Array) -> Array:
    """Scatter consecutive numbers over all of 32 bits."""
    place = (place ^ (place >> 16)) * jnp.uint32(0x85EBCA6B)
    return place ^ (place >> 13)
