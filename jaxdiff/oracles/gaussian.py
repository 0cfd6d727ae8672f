"""The exact denoiser of Gaussian data, by the eigenvectors of their covariance."""

import math

import jax.numpy as jnp

from jaxdiff.oracles.base import exact_product, over_batch
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
        scaled = exact_product(away, axes) / (alpha**2 * variances + sigma**2)
        x0 = mean + alpha * exact_product(axes, variances * scaled).reshape(x_t.shape)
        return Denoised(x0, sigma * exact_product(axes, scaled).reshape(x_t.shape))

    return over_batch(process, denoise_one)
