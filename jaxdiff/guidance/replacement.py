"""Conditional generation by replacement: the part of x that is known, noised to the current level.

If P is the orthogonal projection onto what is known of the data, y = P x_0, then the known part of
x_t is α y + σ P ε, and a sampler that replaces it after every step,

    x ← (I − P) x + P (α y + σ z),    z ~ N(0, I),

draws the rest given a noisy version of what is known. Without a corrector that is an approximation;
Langevin steps at every time, each followed by a replacement, correct it (Song et al. 2021).

A projection is a function ``(key, x, t) -> x``; :func:`jaxdiff.solvers.projected` applies it after
the steps of any solver, a predictor or a corrector alike.
"""

from collections.abc import Callable

import jax.numpy as jnp

from jaxdiff.arrays import expand_to, normal
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Bool, Float, InputError, Key, Keys, PerExample, Real

ProjectFn = Callable[
    [Key | Keys, Float[Array, "batch *event"], PerExample], Float[Array, "batch *event"]
]
"""``(key, x, t) -> x``."""

Projector = Callable[[Float[Array, "batch *event"]], Float[Array, "batch *event"]]
"""An orthogonal projection P of data: linear, symmetric, P P = P."""


def replacement(
    process: Process,
    y: Real[ArrayLike, "*event"] | Real[ArrayLike, "batch *event"],
    projector: Projector,
) -> ProjectFn:
    """Replace the known part of x by that of the data, noised to time t.

    x ← (I − P) x + P (α y + σ z)

    Args:
        process: the forward process.
        y: data whose known part is right, one for all examples or one for each.
        projector: P.

    Returns:
        ``(key, x, t) -> x``.

    Raises:
        InputError: when it is traced, if y has not the shape of an example or of the batch.

    Example:
        >>> import jax
        >>> from jaxdiff.processes import VP
        >>> project = replacement(VP(), jnp.array([3.0, 0.0]), lambda x: x * jnp.array([[1.0, 0]]))
        >>> project(jax.random.key(0), jnp.ones((1, 2)), 0.0)
        Array([[3., 1.]], dtype=float32)

    Reference: Song et al. 2021, appendix I.2 and I.3.
    """
    y = jnp.asarray(y)

    def project(key: Key | Keys, x: Array, t: PerExample) -> Array:
        known = _in_batch("y", y, x)
        alpha, sigma = (expand_to(scale, x) for scale in (process.alpha(t), process.sigma(t)))
        noised = alpha * known + sigma * normal(key, x)
        return (x - projector(x) + projector(noised)).astype(x.dtype)

    return project


def inpainting(
    process: Process,
    y: Real[ArrayLike, "*event"] | Real[ArrayLike, "batch *event"],
    mask: Bool[ArrayLike, "..."],
) -> ProjectFn:
    """Generate the masked-out part of data, given the rest.

    x ← α y + σ z where the mask is true, x elsewhere

    Args:
        process: the forward process.
        y: data; its unknown values are not used.
        mask: whether each value is known, in the shape of an example or of the batch, or one that
            broadcasts to it, such as ``[height, width, 1]``.

    Returns:
        The projection for :func:`jaxdiff.solvers.projected`.

    Raises:
        InputError: if the mask is not Boolean.

    Example:
        >>> import jax
        >>> from jaxdiff.processes import VP
        >>> project = inpainting(VP(), jnp.array([3.0, jnp.nan]), jnp.array([True, False]))
        >>> project(jax.random.key(0), jnp.ones((1, 2)), 0.0)
        Array([[3., 1.]], dtype=float32)

    Reference: Song et al. 2021, appendix I.2.
    """
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise InputError(f"mask must be Boolean, true where y is known, got {mask.dtype}")

    def projector(x: Array) -> Array:
        return jnp.where(_in_batch("mask", mask, x), x, 0.0)

    return replacement(process, y, projector)


def colourisation(
    process: Process,
    grey: Real[ArrayLike, "*space 1"] | Real[ArrayLike, "batch *space 1"],
) -> ProjectFn:
    """Generate the colours of images, given the means of their channels.

    P x is the mean over channels, in every channel. In an orthonormal basis of the channels whose
    first axis is grey it is inpainting with that axis known, as the paper describes it.

    Args:
        process: the forward process.
        grey: mean over the channels, with one channel, for all examples or for each.

    Returns:
        The projection for :func:`jaxdiff.solvers.projected`.

    Raises:
        InputError: if the last axis of ``grey`` has more than one channel.

    Example:
        >>> import jax
        >>> from jaxdiff.processes import VP
        >>> project = colourisation(VP(), jnp.ones((1, 1, 1)))
        >>> project(jax.random.key(0), jnp.array([[[[1.0, 2.0, 6.0]]]]), 0.0)  # mean 3 becomes 1
        Array([[[[-1.,  0.,  4.]]]], dtype=float32)

    Reference: Song et al. 2021, appendix I.3.
    """
    grey = jnp.asarray(grey)
    if grey.shape[-1] != 1:
        raise InputError(f"grey must have one channel, got shape {grey.shape}")

    def projector(x: Array) -> Array:
        return jnp.broadcast_to(jnp.mean(x, axis=-1, keepdims=True), x.shape)

    return replacement(process, grey, projector)


def _in_batch(name: str, values: Array, x: Array) -> Array:
    """Values of one example, or of each, or that broadcast to these, in the shape of the batch."""
    whole = values[None] if values.ndim == x.ndim - 1 else values
    fits = whole.ndim == x.ndim and all(
        own in (1, size) for own, size in zip(whole.shape, x.shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"{name} must have the shape of an example, {x.shape[1:]}, or of the batch, {x.shape}, "
            f"got {values.shape}"
        )
    return jnp.broadcast_to(whole, x.shape)
