"""The exact denoiser of a mixture of Gaussians: that of each component, weighted by Bayes' rule."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.oracles.base import exact_product, over_batch
from jaxdiff.predictions import Denoised, DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Real

Stds = Real[ArrayLike, "components"] | Real[ArrayLike, "components dim dim"]
"""A standard deviation of each component, or a covariance of its flattened data."""


class Components(NamedTuple):
    """The Gaussians of a mixture, each along the principal axes of its covariance."""

    log_weights: Float[Array, "components"]
    means: Float[Array, "components dim"]
    variances: Float[Array, "components #dim"]  # one for all axes where isotropic
    axes: Float[Array, "components dim dim"] | None  # the columns; None where isotropic


class NoisyComponents(NamedTuple):
    """For one x_t, every component's log w_k N(x_t; αm_k, α²C_k + σ²I) and conditional means."""

    log_joint: Float[Array, "components"]  # plus ½ D log 2π
    x0: Float[Array, "components dim"]
    eps: Float[Array, "components dim"]


def mixture(
    process: Process,
    weights: Real[ArrayLike, "components"],
    means: Real[ArrayLike, "components *event"],
    stds: Stds,
) -> DenoiseFn:
    """Exact denoiser of a mixture of Gaussians.

    E[x_0 | x_t] = Σ_k p(k | x_t) E[x_0 | x_t, k],    p(k | x_t) ∝ w_k N(x_t; αm_k, α²C_k + σ²I)

    Args:
        process: the forward process.
        weights: weight of each component, non-negative; normalised here.
        means: mean of each component.
        stds: standard deviation of each isotropic component, or the covariances of the flattened
            data ``[components, D, D]``, positive semi-definite.

    Returns:
        ``denoise_fn(x_t, t) -> Denoised``.

    Raises:
        InputError: if the three differ in the number of components, or covariances and means in
            their dimension.

    Example:
        >>> from jaxdiff.processes import VP
        >>> modes = jnp.array([[-1.0], [1.0]])
        >>> denoise_fn = mixture(VP(), jnp.ones(2), modes, jnp.array([0.1, 0.1]))
        >>> denoise_fn(jnp.array([[0.0]]), 1.0).x0
        Array([[0.]], dtype=float32)

    Reference: Bayes' rule over components.
    """
    parts = components(weights, means, stds)

    def denoise_one(x_t: Array, alpha: Array, sigma: Array) -> Denoised:
        return Denoised(*averaged(given_noisy(parts, x_t, alpha, sigma), x_t))

    return over_batch(process, denoise_one)


def components(
    weights: Real[ArrayLike, "components"],
    means: Real[ArrayLike, "components *event"],
    stds: Stds,
) -> Components:
    """Check the parts of a mixture, and find the principal axes of its covariances.

    Args:
        weights: weight of each component; normalised here.
        means: mean of each component.
        stds: standard deviations, or covariances.

    Raises:
        InputError: as :func:`mixture`.
    """
    weights, means, stds = jnp.asarray(weights), jnp.asarray(means), jnp.asarray(stds)
    if not weights.shape == stds.shape[:1] == means.shape[:1]:
        raise InputError(
            "weights [K], means [K, ...] and stds [K] must have the same number of components, got "
            f"shapes {weights.shape}, {means.shape} and {stds.shape}"
        )
    log_weights = jnp.log(weights) - jnp.log(jnp.sum(weights))
    centres = means.reshape(means.shape[0], -1)
    if stds.ndim == 1:
        return Components(log_weights, centres, stds[:, None] ** 2, None)
    check_covariances(stds, centres)
    variances, axes = jnp.linalg.eigh(stds)
    return Components(log_weights, centres, jnp.maximum(variances, 0.0), axes)


def check_covariances(covs: Real[Array, "..."], centres: Real[Array, "components dim"]) -> None:
    """Check that covariances have the dimension of the means.

    Raises:
        InputError: if they do not.
    """
    count, dim = centres.shape
    if covs.shape != (count, dim, dim):
        raise InputError(
            f"stds must have shape {(count,)}, or {(count, dim, dim)} if they are covariances, for "
            f"means of {dim} numbers, got shape {covs.shape}"
        )


def given_noisy(
    parts: Components, x_t: Float[Array, "*event"], alpha: Float[Array, ""], sigma: Float[Array, ""]
) -> NoisyComponents:
    """What each component says about one noisy example.

    Args:
        parts: the components.
        x_t: one noisy example.
        alpha: signal scale.
        sigma: noise scale.
    """
    away = _along(parts.axes, x_t.reshape(1, -1) - alpha * parts.means)
    total = alpha**2 * parts.variances + sigma**2
    scaled = away / total
    log_det = jnp.sum(jnp.log(jnp.broadcast_to(total, away.shape)), axis=1)
    log_joint = parts.log_weights - 0.5 * (jnp.sum(away * scaled, axis=1) + log_det)
    x0 = parts.means + alpha * _back(parts.axes, parts.variances * scaled)
    return NoisyComponents(log_joint, x0, sigma * _back(parts.axes, scaled))


def averaged(
    noisy: NoisyComponents, x_t: Float[Array, "*event"]
) -> tuple[Float[Array, "*event"], Float[Array, "*event"]]:
    """E[x_0 | x_t] and E[ε | x_t]: those of the components, by their posterior probabilities."""
    responsibility = jax.nn.softmax(noisy.log_joint)
    x0, eps = (exact_product(responsibility, each) for each in (noisy.x0, noisy.eps))
    return x0.reshape(x_t.shape), eps.reshape(x_t.shape)


def _along(axes: Array | None, x: Array) -> Array:
    """Coordinates of one vector per component along its axes."""
    return x if axes is None else exact_product(x[:, None, :], axes)[:, 0]


def _back(axes: Array | None, x: Array) -> Array:
    """The inverse of :func:`_along`."""
    return x if axes is None else exact_product(axes, x[:, :, None])[:, :, 0]
