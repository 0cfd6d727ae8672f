"""Images as the Inception-v3 of the FID gets them, resized and scaled in one of the published ways.

The way moves the FID by more than most models differ, so that it is part of every figure. Along an
axis of n pixels, output pixel i is between the pixels ⌊u⌋ and ⌊u⌋ + 1 at

    u = max(0, (i + ½)·n/299 − ½)    "legacy_pytorch": pixels are squares, u is from their centres
    u = i·n/299                      "legacy_tensorflow": TensorFlow 1, which shifts the image

where both interpolate linearly, also where an image shrinks, so that finer detail aliases. "clean"
is cubic, with a filter as wide as an output pixel where an image shrinks, of each channel in
floats: nothing is rounded or clipped. PyTorch's port scales bytes to x/127.5 − 1, the other two to
(x − 128)/128.
"""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from jaxdiff.checks import check_one_of
from jaxdiff.extras import require
from jaxdiff.typing import InputError

SIDE = 299
"""Pixels a side of what the network gets."""

InceptionResize = Literal["clean", "legacy_pytorch", "legacy_tensorflow"]


def inception_input(images: np.ndarray, resize: InceptionResize = "clean") -> np.ndarray:
    """Resize to 299 × 299 pixels, and scale to about [−1, 1].

    Args:
        images: uint8 ``[n, h, w, 3]``, or ``[n, h, w, 1]`` for grey ones, of any size.
        resize: one of ``INCEPTION_RESIZES``; "clean" requires Pillow.

    Returns:
        float32 ``[n, 299, 299, 3]``; grey is repeated.

    Raises:
        InputError: if the images are not uint8, of another shape, or ``resize`` is unknown.

    Example:
        >>> x = inception_input(np.full((1, 2, 2, 1), 192, np.uint8), "legacy_tensorflow")
        >>> x.shape, float(x.min()), float(x.max())
        ((1, 299, 299, 3), 0.5, 0.5)

    Reference:
        Parmar et al. 2022, On aliased resizing and surprising subtleties in GAN evaluation.
    """
    check_one_of(resize=(resize, InceptionResize))
    check_images(images)
    scaled = INCEPTION_RESIZES[resize](images.astype(np.float32))
    return np.repeat(scaled, 3, axis=-1) if images.shape[-1] == 1 else scaled


def check_images(images: np.ndarray) -> None:
    """Raise InputError unless they are uint8 ``[n, h, w, 1 or 3]`` without an empty axis.

    Example:
        >>> check_images(np.zeros((2, 8, 8, 3)))
        Traceback (most recent call last):
        jaxdiff.typing.InputError: images must be uint8, got float64
    """
    if images.dtype != np.uint8:
        raise InputError(f"images must be uint8, got {images.dtype}")
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.size == 0:
        raise InputError(f"images must have a nonempty shape [n, h, w, 1 or 3], got {images.shape}")


def _clean(x: np.ndarray) -> np.ndarray:
    require("PIL", purpose="the resizing of clean-fid")
    from PIL import Image

    out = np.empty((len(x), SIDE, SIDE, x.shape[-1]), np.float32)
    for i, channel in np.ndindex(len(x), x.shape[-1]):
        plane = Image.fromarray(np.ascontiguousarray(x[i, ..., channel]))
        out[i, ..., channel] = np.asarray(plane.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
    return (out - 128) / 128


def _legacy_pytorch(x: np.ndarray) -> np.ndarray:
    def position(size: int) -> np.ndarray:
        centre = (np.arange(SIDE, dtype=np.float32) + np.float32(0.5)) * _pixel(size)
        return np.maximum(centre - np.float32(0.5), 0)

    return _bilinear(x, position) / np.float32(127.5) - 1


def _legacy_tensorflow(x: np.ndarray) -> np.ndarray:
    def position(size: int) -> np.ndarray:
        return np.arange(SIDE, dtype=np.float32) * _pixel(size)

    return (_bilinear(x, position) - 128) / 128


INCEPTION_RESIZES: Mapping[InceptionResize, Callable[[np.ndarray], np.ndarray]] = {
    "clean": _clean,
    "legacy_pytorch": _legacy_pytorch,
    "legacy_tensorflow": _legacy_tensorflow,
}
"""Functions of float32 ``[n, h, w, c]`` in [0, 255], by the names that clean-fid gave them."""


def _pixel(size: int) -> np.float32:
    """Width of an output pixel in pixels of the image, float32 as in both systems."""
    return np.float32(size) / np.float32(SIDE)


def _bilinear(x: np.ndarray, position: Callable[[int], np.ndarray]) -> np.ndarray:
    """Interpolate the columns, then the rows, at ``position(size)`` in units of pixels."""
    for axis in (2, 1):
        size = x.shape[axis]
        at = position(size)
        low = at.astype(int)
        share = np.expand_dims(at - low.astype(np.float32), tuple({0, 1, 2, 3} - {axis}))
        left, right = (x.take(i, axis) for i in (low, np.minimum(low + 1, size - 1)))
        x = left + (right - left) * share
    return x
