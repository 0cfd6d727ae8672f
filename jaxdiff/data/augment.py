"""Augmentation of stored images inside the compiled step: mirroring, dequantisation, scaling.

Every example has a key of its own, so that its randomness does not depend on devices, processes
and microbatches. Images are sent to the device as bytes.
"""

import jax
import jax.numpy as jnp

from jaxdiff.data.pixels import SYMMETRIC, Range, check_range, levels
from jaxdiff.typing import Array, Key


def flip(keys: Key, images: Array) -> Array:
    """Mirror each image left to right with probability one half.

    Args:
        keys: one per image, ``[batch]``.
        images: ``[batch, height, width, channels]``.

    Returns:
        Images of the same shape and type.
    """
    mirrored = jax.vmap(jax.random.bernoulli)(keys)
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1], images)


def dequantize(keys: Key, images: Array, value_range: Range = SYMMETRIC) -> Array:
    """Spread every byte uniformly over its own 256th of the range: low + (high − low)·(b + u)/256.

    u is made an odd multiple of 2⁻¹⁶, so that b + u fills the 24 bits of a float32 exactly: no
    sum is rounded up to the next byte, and the mean of u is one half.

    Args:
        keys: one per image, ``[batch]``.
        images: uint8, ``[batch, ...]``.
        value_range: ``(low, high)``, the interval that the 256 levels share.

    Returns:
        float32, of the same shape.

    Raises:
        InputError: the range is not increasing.

    Example:
        >>> keys = jax.random.split(jax.random.key(0), 2)
        >>> x = dequantize(keys, jnp.array([[0], [255]], jnp.uint8), (0.0, 1.0))
        >>> jnp.floor(256 * x).ravel().tolist()
        [0.0, 255.0]
    """
    low, high = check_range(value_range)
    draw = jax.vmap(lambda key: jax.random.bits(key, images.shape[1:], jnp.uint16))
    spread = images + (draw(keys) | 1) * 2.0**-16
    return spread * ((high - low) / 256) + low


def scale(images: Array, value_range: Range = SYMMETRIC) -> Array:
    """Map bytes onto the range, bit for bit like :func:`jaxdiff.data.to_floats`, but in JAX.

    Example:
        >>> scale(jnp.array([0, 255], jnp.uint8), (-0.5, 0.5)).tolist()
        [-0.5, 0.5]
    """
    return jnp.asarray(levels(value_range))[images]
