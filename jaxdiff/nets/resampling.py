"""Halving and doubling an image with a short filter, in plain slices and sums.

The filter is separable and acts on every axis but the first and last. (1, 1) halves by the mean of
pairs and doubles by repetition; (1, 3, 3, 1) are the binomial weights of StyleGAN2, which alias
less. Beyond its edges the image is zero, as in the published networks, so a wide filter darkens the
outermost pixels; elsewhere a constant image stays constant.
"""

from collections.abc import Sequence
from numbers import Real

import jax
import jax.numpy as jnp

from jaxdiff.typing import Array, InputError

BOX, BINOMIAL = (1, 1), (1, 3, 3, 1)


def downsample(x: Array, weights: Sequence[int] = BOX) -> Array:
    """Filter and take every second pixel, along each axis of the image.

    y_i = Σ_j k_j x_{2i + j − (m − 1)},    k = weights/Σ weights, of length 2m

    Args:
        x: ``[batch, ..., channels]``, sides even.
        weights: even in number.

    Returns:
        ``[batch, .../2, channels]``.

    Example:
        >>> downsample(jnp.array([[[1.0], [3.0], [5.0], [5.0]]])).ravel()
        Array([2., 5.], dtype=float32)

    Reference: Zhang 2019; Karras et al. 2020 (StyleGAN2), appendix B.
    """
    taps = _normalised(weights)
    for axis in range(1, x.ndim - 1):
        padded = _pad(x, axis, len(taps) // 2 - 1)
        half = x.shape[axis] // 2
        parts = [_take(padded, axis, j, half, step=2) for j in range(len(taps))]
        x = _weighted(taps, parts)
    return x


def upsample(x: Array, weights: Sequence[int] = BOX, *, beyond: int = 0) -> Array:
    """Put a zero after every pixel along each axis, then filter, preserving the mean.

    y_n = 2 Σ_j k_j u_{n + j − m},    u_{2i} = x_i, u_{2i + 1} = 0, k of length 2m

    Args:
        x: ``[batch, ..., channels]``.
        weights: even in number.
        beyond: pixels kept on each side of the doubled image, at most 2, into which a wide filter
            spreads it.

    Returns:
        ``[batch, 2 · ... + 2 · beyond, channels]``.

    Example:
        >>> upsample(jnp.array([[[1.0], [3.0]]])).ravel()
        Array([1., 1., 3., 3.], dtype=float32)

    Reference: Karras et al. 2020 (StyleGAN2), appendix B.
    """
    taps = [2 * tap for tap in _normalised(weights)]
    m = len(taps) // 2
    for axis in range(1, x.ndim - 1):
        x = _pad(x, axis, 1) if beyond else x
        size = x.shape[axis]
        padded = _pad(x, axis, m // 2)
        phases = []
        for phase in range(2):
            parity = (m - phase) % 2  # taps of the other parity meet the zeros between the pixels
            start = m // 2 + (phase + parity - m) // 2
            parts = [_take(padded, axis, start + j, size) for j in range(m)]
            phases.append(_weighted(taps[parity::2], parts))
        shape = (*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
        x = jnp.stack(phases, axis=axis + 1).reshape(shape)
        if beyond:  # of the two pixels that were padded on each side
            x = jax.lax.slice_in_dim(x, 2 - beyond, 2 * size - 2 + beyond, axis=axis)
    return x


def fir_filter(x: Array, weights: Sequence[int]) -> Array:
    """Filter only, padded so that an unpadded convolution of stride 2 then halves the size.

    y_i = Σ_j k_j x_{i + j − m}

    Args:
        x: ``[batch, ..., channels]``, sides n.
        weights: 2m of them.

    Returns:
        ``[batch, ..., channels]``, sides n + 1.

    Reference: Karras et al. 2020 (StyleGAN2), the filter before a convolution that halves.
    """
    taps = _normalised(weights)
    for axis in range(1, x.ndim - 1):
        size = x.shape[axis]
        padded = _pad(x, axis, len(taps) // 2)
        parts = [_take(padded, axis, j, size + 1) for j in range(len(taps))]
        x = _weighted(taps, parts)
    return x


def check_weights(weights: Sequence[int]) -> None:
    """Refuse a filter that is not symmetric about pairs of pixels, or cannot be normalised.

    Raises:
        InputError: if its weights are not numbers, are odd in number, or do not sum above 0.
    """
    numbers = isinstance(weights, Sequence) and all(isinstance(w, Real) for w in weights)
    if not numbers or not weights or len(weights) % 2 or sum(weights) <= 0:
        raise InputError(
            "a resampling filter must have an even number of weights with a positive sum, got "
            f"{weights!r}"
        )


def _pad(x: Array, axis: int, size: int) -> Array:
    """Pad both ends of one axis with zeros."""
    widths = [(0, 0)] * x.ndim
    widths[axis] = (size, size)
    return jnp.pad(x, widths) if size else x


def _normalised(weights: Sequence[int]) -> list[float]:
    check_weights(weights)
    return [weight / sum(weights) for weight in weights]


def _take(x: Array, axis: int, start: int, size: int, step: int = 1) -> Array:
    stop = start + step * (size - 1) + 1
    return jax.lax.slice_in_dim(x, start, stop, step, axis)


def _weighted(taps: Sequence[float], parts: Sequence[Array]) -> Array:
    total = taps[0] * parts[0]
    for tap, part in zip(taps[1:], parts[1:], strict=True):
        total += tap * part
    return total
