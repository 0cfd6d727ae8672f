"""L2: exact denoisers, for data whose distribution is known.

If x_0 is Gaussian with mean m and covariance C then x_t is N(αm, α²C + σ²I), and

    E[x_0 | x_t] = m + αC (α²C + σ²I)⁻¹ (x_t − αm),    E[ε | x_t] = σ (α²C + σ²I)⁻¹ (x_t − αm).

For a mixture the same holds within each component, weighted by its posterior probability. Neither
view divides by α or σ, so both are exact at t = 0 and at t = 1. Everything that takes a model is
tested with these: solvers must reach the exact distribution, losses the exact value.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.predictions import Denoised, DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, InputError, Real


def gaussian(
    process: Process, mean: Real[ArrayLike, "*event"], cov: Real[ArrayLike, "dim dim"]
) -> DenoiseFn:
    """Exact denoiser of Gaussian data with any covariance.

    Args:
        process: the forward process.
        mean: mean of the data, in the shape of one example.
        cov: covariance of the flattened data, positive semi-definite.

    Returns:
        ``denoise_fn(x_t, t) -> Denoised``.

    Raises:
        InputError: if the shape of ``cov`` does not match ``mean``.

    Example:
        >>> from jaxdiff.processes import VP
        >>> denoise_fn = gaussian(VP(), mean=jnp.zeros(2), cov=jnp.eye(2))
        >>> denoise_fn(jnp.ones((1, 2)), 0.0).x0
        Array([[1., 1.]], dtype=float32)

    Reference: the conditional mean of a joint Gaussian.
    """
    mean, cov = jnp.asarray(mean), jnp.asarray(cov)
    dim = math.prod(mean.shape)
    if cov.shape != (dim, dim):
        raise InputError(
            f"cov must have shape {(dim, dim)} for a mean of {dim} numbers, got shape {cov.shape}"
        )
    variances, axes = jnp.linalg.eigh(cov)
    variances = jnp.maximum(variances, 0.0)

    def denoise_one(x_t: Array, alpha: Array, sigma: Array) -> Denoised:
        away = (x_t - alpha * mean).reshape(dim)
        scaled = _exact(away, axes) / (alpha**2 * variances + sigma**2)
        x0 = mean + alpha * _exact(axes, variances * scaled).reshape(x_t.shape)
        return Denoised(x0, sigma * _exact(axes, scaled).reshape(x_t.shape))

    return _over_batch(process, denoise_one)


def mixture(
    process: Process,
    weights: Real[ArrayLike, "components"],
    means: Real[ArrayLike, "components *event"],
    stds: Real[ArrayLike, "components"],
) -> DenoiseFn:
    """Exact denoiser of a mixture of isotropic Gaussians.

    Args:
        process: the forward process.
        weights: weight of each component, positive; normalised here.
        means: mean of each component.
        stds: standard deviation of each component, positive.

    Returns:
        ``denoise_fn(x_t, t) -> Denoised``.

    Raises:
        InputError: if the three differ in the number of components.

    Example:
        >>> from jaxdiff.processes import VP
        >>> modes = jnp.array([[-1.0], [1.0]])
        >>> denoise_fn = mixture(VP(), jnp.ones(2), modes, jnp.array([0.1, 0.1]))
        >>> denoise_fn(jnp.array([[0.0]]), 1.0).x0
        Array([[0.]], dtype=float32)

    Reference: Bayes' rule over components.
    """
    weights, means, stds = jnp.asarray(weights), jnp.asarray(means), jnp.asarray(stds)
    if not weights.shape == stds.shape == means.shape[:1]:
        raise InputError(
            "weights [K], means [K, ...] and stds [K] must have the same number of components, got "
            f"shapes {weights.shape}, {means.shape} and {stds.shape}"
        )
    centres = means.reshape(means.shape[0], -1)
    dim = centres.shape[1]

    def denoise_one(x_t: Array, alpha: Array, sigma: Array) -> Denoised:
        away = x_t.reshape(1, dim) - alpha * centres
        variances = (alpha * stds) ** 2 + sigma**2
        distance2 = jnp.sum(away**2, axis=1)
        log_joint = jnp.log(weights) - 0.5 * (distance2 / variances + dim * jnp.log(variances))
        responsibility = jax.nn.softmax(log_joint)
        scaled = away / variances[:, None]
        x0 = _exact(responsibility, centres + alpha * stds[:, None] ** 2 * scaled)
        eps = sigma * _exact(responsibility, scaled)
        return Denoised(x0.reshape(x_t.shape), eps.reshape(x_t.shape))

    return _over_batch(process, denoise_one)


def _exact(a: Array, b: Array) -> Array:
    """Matrix product in full precision, even where the default rounds to bfloat16 or TF32."""
    return jnp.matmul(a, b, precision="highest")


def _over_batch(
    process: Process, denoise_one: Callable[[Array, Array, Array], Denoised]
) -> DenoiseFn:
    """Lift ``(x_t, alpha, sigma) -> Denoised`` for one example to a batch and its times."""

    def denoise_fn(x_t: Array, t: ArrayLike) -> Denoised:
        scales = process.alpha(t), process.sigma(t)  # once, where all examples have one time
        return jax.vmap(denoise_one)(x_t, *(jnp.broadcast_to(s, x_t.shape[:1]) for s in scales))

    return denoise_fn
