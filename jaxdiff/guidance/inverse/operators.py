"""Measurement operators y = A(x): functions of a batch that treat every example independently.

Any such function serves as an operator, linear or not: where the adjoint or the derivative of A is
needed it is found by automatic differentiation, in :mod:`jaxdiff.guidance.inverse.measurement`.
Here are those of the literature. Axes between the first and the last are space, the last channels.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import check_count, known_scalar
from jaxdiff.typing import Array, ArrayLike, Bool, Float, InputError, Real, Scalar, Shaped

OperatorFn = Callable[[Float[Array, "batch *event"]], Float[Array, "batch *measured"]]
"""``x -> A(x)``, row by row."""


def matrix(A: Real[ArrayLike, "measured dim"]) -> OperatorFn:
    """The product of a matrix with the flattened example.

    y = A vec(x)

    Args:
        A: the matrix.

    Raises:
        InputError: if A is not a matrix.

    Example:
        >>> matrix(jnp.array([[1.0, 2.0]]))(jnp.ones((1, 2)))
        Array([[3.]], dtype=float32)
    """
    A = jnp.asarray(A)
    if A.ndim != 2:
        raise InputError(f"A must be a matrix [M, D], got shape {A.shape}")

    def apply(x: Array) -> Array:
        flat = x.reshape(x.shape[0], -1)
        return jnp.matmul(flat, A.T.astype(x.dtype), precision="highest")

    return apply


def mask(known: Bool[np.ndarray, "*event"]) -> OperatorFn:
    """Inpainting: the values at which a mask is true, as a vector.

    y = x[known]

    Args:
        known: Boolean NumPy array of the shape of an example: :func:`box_mask`,
            :func:`random_mask`, or any other.

    Raises:
        InputError: if the mask is not Boolean, or true nowhere.

    Example:
        >>> mask(np.array([True, False, True]))(jnp.array([[1.0, 2.0, 3.0]]))
        Array([[1., 3.]], dtype=float32)
    """
    known = np.asarray(known)
    if known.dtype != bool or not known.any():
        raise InputError(f"known must be Boolean and somewhere true, got {known.dtype} array")
    places = np.flatnonzero(known)

    def apply(x: Array) -> Array:
        if x.shape[1:] != known.shape:
            raise InputError(f"x must have the shape of the mask, {known.shape}, got {x.shape[1:]}")
        return x.reshape(x.shape[0], -1)[:, places]

    return apply


def downsample(factor: int) -> OperatorFn:
    """Average over blocks of space.

    y_I = mean of x_i over the block I of factor × … × factor

    Args:
        factor: side of a block.

    Raises:
        InputError: if factor is not a positive integer, or does not divide an axis of space.

    Example:
        >>> downsample(2)(jnp.arange(4.0).reshape(1, 4, 1))[0, :, 0]
        Array([0.5, 2.5], dtype=float32)
    """
    check_count("factor must be a positive integer", factor)

    def apply(x: Array) -> Array:
        space = x.shape[1:-1]
        if any(size % factor for size in space):
            raise InputError(f"factor must divide each axis of space, {space}, got {factor}")
        blocks = [part for size in space for part in (size // factor, factor)]
        split = x.reshape(x.shape[0], *blocks, x.shape[-1])
        return jnp.mean(split, axis=tuple(range(2, 2 + 2 * len(space), 2)))

    return apply


def blur(kernel: Real[ArrayLike, "taps"]) -> OperatorFn:
    """Convolve each axis of space with a symmetric kernel, with periodic boundaries.

    y_i = Σ_k kernel_k x_{i + k − (K − 1)/2}    along every axis

    Args:
        kernel: K weights, K odd; see :func:`gaussian_kernel`.

    Raises:
        InputError: if the kernel is not a vector of odd length.

    Example:
        >>> blur(jnp.array([0.25, 0.5, 0.25]))(jnp.eye(5)[:1, :, None])[0, :, 0]
        Array([0.5 , 0.25, 0.  , 0.  , 0.25], dtype=float32)
    """
    kernel = jnp.asarray(kernel)
    if kernel.ndim != 1 or kernel.shape[0] % 2 == 0:
        raise InputError(f"kernel must be a vector of odd length, got shape {kernel.shape}")
    reach = kernel.shape[0] // 2

    def apply(x: Array) -> Array:
        weights = kernel.astype(x.dtype)
        for axis in range(1, x.ndim - 1):
            shifted = (jnp.roll(x, reach - k, axis) for k in range(kernel.shape[0]))
            x = sum((w * each for w, each in zip(weights, shifted, strict=True)), 0 * x)
        return x

    return apply


def gaussian_kernel(num_taps: int, *, std: Scalar) -> Float[Array, "{num_taps}"]:
    """Weights of a Gaussian of a standard deviation in pixels, of sum 1.

    Args:
        num_taps: odd number of weights.
        std: standard deviation, positive.

    Raises:
        InputError: if std is not positive.

    Example:
        >>> gaussian_kernel(3, std=1e-3)
        Array([0., 1., 0.], dtype=float32)
    """
    known_scalar("std must be positive and finite", std, 0, strict=True)
    away = jnp.arange(num_taps) - (num_taps - 1) / 2
    return jax.nn.softmax(-0.5 * (away / std) ** 2)


def grey(weights: Real[ArrayLike, "channels"] | None = None) -> OperatorFn:
    """A weighted mean over the channels.

    y = Σ_c w_c x_c

    Args:
        weights: of the channels; by default their mean.

    Example:
        >>> grey()(jnp.array([[[1.0, 2.0, 6.0]]]))
        Array([[[3.]]], dtype=float32)
    """

    def apply(x: Array) -> Array:
        channels = x.shape[-1]
        w = jnp.full(channels, 1 / channels) if weights is None else jnp.asarray(weights)
        return jnp.matmul(x, w.astype(x.dtype)[:, None], precision="highest")

    return apply


def saturated(operator: OperatorFn, *, low: Scalar = -1.0, high: Scalar = 1.0) -> OperatorFn:
    """A nonlinear measurement: the values of another one, clipped to the range of a sensor.

    y = min(max(A(x), low), high)

    Args:
        operator: A, such as ``lambda x: 2 * x`` for the overexposed pictures of high dynamic range.
        low: the smallest value that the sensor reports.
        high: the largest.

    Example:
        >>> saturated(lambda x: 2 * x)(jnp.array([[0.25, 3.0]]))
        Array([[0.5, 1. ]], dtype=float32)
    """
    return lambda x: jnp.clip(operator(x), low, high)


def matrix_of(operator: OperatorFn, shape: tuple[int, ...]) -> Shaped[Array, "measured dim"]:
    """The matrix of a linear operator, from its values at every unit vector.

    Args:
        operator: the linear operator.
        shape: of an example of D numbers; the matrix has D columns.

    Example:
        >>> matrix_of(lambda x: 2 * x, (2,))
        Array([[2., 0.],
               [0., 2.]], dtype=float32)
    """
    dim = math.prod(shape)
    columns = operator(jnp.eye(dim).reshape(dim, *shape))
    return columns.reshape(dim, -1).T
