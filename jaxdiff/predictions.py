"""L2: what a network may predict, and the two views of it that all other code uses.

At any time x_t = α x_0 + σ ε determines the noise from the data and the data from the noise, so an
estimate of either is an estimate of both. A network may predict any of

    eps     ε                              (DDPM)
    x0      x_0
    v       α ε − σ x_0                    (Salimans & Ho 2022)
    score   ∇ log p_t(x_t) = −ε/σ          (Song et al. 2021)
    sigma_score   σ ∇ log p_t(x_t) = −ε    (their NCSN++, whose output is divided by σ)
    edm     F = (σ x_0 − α σ_d² ε) / (σ_d √(α²σ_d² + σ²))   (Karras et al. 2022)

where σ_d is the standard deviation of the data. F has unit variance at every noise level, is
converted back without division by α or σ, and is −v for VP with σ_d = 1. All other code uses
`Denoised`.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import jax.numpy as jnp

from jaxdiff.arrays import expand_to
from jaxdiff.checks import check_one_of
from jaxdiff.typing import Array, Float, PerExample, Scalar


class Denoised(NamedTuple):
    """Both views of one estimate, with α·x0 + σ·eps = x_t."""

    x0: Float[Array, "batch *event"]
    eps: Float[Array, "batch *event"]


class DenoisedWithVariance(NamedTuple):
    """The estimate of a model that has learned its reverse variance: both views and the variance.

    ``variance_fraction`` interpolates the log variance of a reverse step, from 0, the posterior's,
    to 1, the transition's: see :mod:`jaxdiff.losses.reverse_step`.
    """

    x0: Float[Array, "batch *event"]
    eps: Float[Array, "batch *event"]
    variance_fraction: Float[Array, "batch *event"]


Estimate = Denoised | DenoisedWithVariance

Kind = Literal["eps", "x0", "v", "score", "sigma_score", "edm"]
"""Kinds of prediction, by the equations above."""

DenoiseFn = Callable[[Float[Array, "batch *event"], PerExample], Estimate]
"""``denoise_fn(x_t, t)``: a model, as all other code uses it."""


def to_denoised(
    output: Float[Array, "batch *event"],
    x_t: Float[Array, "batch *event"],
    alpha: PerExample,
    sigma: PerExample,
    *,
    kind: Kind,
    data_std: Scalar = 1.0,
) -> Denoised:
    """Convert a network's output into both views of its estimate.

    Args:
        output: what the network predicts.
        x_t: noisy data.
        alpha: signal scale; positive for "eps", "score" and "sigma_score".
        sigma: noise scale; positive for "x0".
        kind: "eps", "x0", "v", "score", "sigma_score" or "edm".
        data_std: standard deviation of the data; used by "edm" only.

    Returns:
        ``Denoised(x0, eps)``.

    Raises:
        InputError: if ``kind`` is none of these.

    Example:
        >>> x_t = jnp.array([[1.0]])
        >>> to_denoised(jnp.array([[0.5]]), x_t, 0.8, 0.6, kind="eps").x0
        Array([[0.875]], dtype=float32)

    Reference: Salimans & Ho 2022, section 4; Karras et al. 2022, eq. 7.
    """
    check_kind(kind)
    a, s = expand_to(alpha, x_t), expand_to(sigma, x_t)
    match kind:
        case "eps":
            return Denoised((x_t - s * output) / a, output)
        case "x0":
            return Denoised(output, (x_t - a * output) / s)
        case "v":
            norm2 = a**2 + s**2
            return Denoised((a * x_t - s * output) / norm2, (s * x_t + a * output) / norm2)
        case "score":
            return Denoised((x_t + s**2 * output) / a, -s * output)
        case "sigma_score":
            return Denoised((x_t + s * output) / a, -output)
        case _:
            d = jnp.asarray(data_std)
            norm2 = (a * d) ** 2 + s**2
            scaled = d * output / jnp.sqrt(norm2)
            return Denoised(a * d**2 * x_t / norm2 + s * scaled, s * x_t / norm2 - a * scaled)


def from_denoised(
    denoised: Estimate,
    x_t: Float[Array, "batch *event"],
    alpha: PerExample,
    sigma: PerExample,
    *,
    kind: Kind,
    data_std: Scalar = 1.0,
) -> Float[Array, "batch *event"]:
    """Convert an estimate, or the true data and noise, into a prediction of the given kind.

    Args:
        denoised: both views.
        x_t: noisy data; only its shape is used.
        alpha: signal scale.
        sigma: noise scale; positive for "score".
        kind: "eps", "x0", "v", "score", "sigma_score" or "edm".
        data_std: standard deviation of the data; used by "edm" only.

    Returns:
        The inverse of :func:`to_denoised`.

    Raises:
        InputError: if ``kind`` is none of these.

    Reference: Salimans & Ho 2022, section 4; Karras et al. 2022, eq. 7.
    """
    check_kind(kind)
    a, s = expand_to(alpha, x_t), expand_to(sigma, x_t)
    match kind:
        case "eps":
            return denoised.eps
        case "x0":
            return denoised.x0
        case "v":
            return a * denoised.eps - s * denoised.x0
        case "score":
            return -denoised.eps / s
        case "sigma_score":
            return -denoised.eps
        case _:
            d = jnp.asarray(data_std)
            unit = d * jnp.sqrt((a * d) ** 2 + s**2)
            return (s * denoised.x0 - a * d**2 * denoised.eps) / unit


def check_kind(kind: Kind) -> None:
    """Check that a kind of prediction exists.

    Raises:
        InputError: if it does not, listing the kinds.
    """
    check_one_of(**{"kind of prediction": (kind, Kind)})
