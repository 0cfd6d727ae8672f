"""A mixture given a noisy linear measurement of its data, which is again a mixture.

With y = A x_0 + s n, n ~ N(0, I), and S_k = A C_k Aᵀ + s²I, K_k = C_k Aᵀ S_k⁻¹ for each component,

    w'_k ∝ w_k N(y; A m_k, S_k),    m'_k = m_k + K_k (y − A m_k),    C'_k = (I − K_k A) C_k,

the last computed as (I − K A) C (I − K A)ᵀ + s² K Kᵀ, which no rounding makes indefinite. The
posterior's own denoiser is ``mixture(process, *condition(...))``: E[x_0 | x_t, y].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import check_count, check_known, known_scalar
from jaxdiff.oracles.base import exact_product
from jaxdiff.oracles.mixture import Stds, check_covariances, components
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Key, Real, Scalar


class Mixture(NamedTuple):
    """A mixture of Gaussians, in the order of arguments of :func:`jaxdiff.oracles.mixture`."""

    weights: Float[Array, "components"]  # of sum 1
    means: Float[Array, "components *event"]
    stds: Float[Array, "components"] | Float[Array, "components dim dim"]

    @property
    def mean(self) -> Float[Array, "*event"]:
        """Mean of the whole mixture."""
        return jnp.tensordot(self.weights, self.means, axes=1, precision="highest")

    @property
    def cov(self) -> Float[Array, "dim dim"]:
        """Covariance of the whole mixture, of the flattened data."""
        means = self.means.reshape(self.means.shape[0], -1)
        away = means - self.mean.reshape(1, -1)
        within = _covariances(self.stds, means)
        each = within + away[:, :, None] * away[:, None, :]
        return jnp.tensordot(self.weights, each, axes=1, precision="highest")


def condition(
    weights: Real[ArrayLike, "components"],
    means: Real[ArrayLike, "components *event"],
    covs: Stds,
    A: Real[ArrayLike, "measured dim"],
    y: Real[ArrayLike, "measured"],
    noise_std: Scalar,
) -> Mixture:
    """Posterior of a mixture given y = A x_0 + noise_std · n.

    w'_k ∝ w_k N(y; A m_k, S_k),    m'_k = m_k + K_k (y − A m_k),    C'_k = (I − K_k A) C_k

    Args:
        weights: weight of each component, normalised here.
        means: mean of each component.
        covs: covariances of the flattened data ``[components, D, D]``, or standard deviations.
        A: the measurement's matrix, ``[M, D]``.
        y: the measurement.
        noise_std: standard deviation of its noise; at 0 every A C_k Aᵀ must be invertible.

    Returns:
        The posterior, with full covariances: ``mixture(process, *posterior)`` is its denoiser and
        ``sample_mixture(key, *posterior, num_samples=n)`` its exact sampler.

    Raises:
        InputError: if shapes do not fit together, noise_std is negative or not finite, or a
            component leaves y with a singular covariance.

    Example:
        >>> posterior = condition(  # x_0 ~ N(0, 1), y = x_0 + n: N(y/2, 1/2)
        ...     jnp.ones(1), jnp.zeros((1, 1)), jnp.ones(1), jnp.eye(1), jnp.ones(1), 1.0)
        >>> posterior.means.round(4), posterior.stds.round(4)
        (Array([[0.5]], dtype=float32), Array([[[0.5]]], dtype=float32))

    Reference: the conditional of a joint Gaussian, and Bayes' rule over components.
    """
    weights, means, covs, A, y = map(jnp.asarray, (weights, means, covs, A, y))
    known_scalar("noise_std must be non-negative and finite", noise_std, 0)
    parts = components(weights, means, covs)
    covs, dim = _covariances(covs, parts.means), parts.means.shape[1]
    if A.ndim != 2 or A.shape[1] != dim or y.shape != A.shape[:1]:
        raise InputError(
            f"A must have shape [M, {dim}] and y shape [M], got shapes {A.shape} and {y.shape}"
        )

    def given_y(mean: Array, cov: Array) -> tuple[Array, Array, Array]:
        cross = exact_product(A, cov)
        spread = exact_product(cross, A.T) + jnp.asarray(noise_std) ** 2 * jnp.eye(A.shape[0])
        factor = jnp.linalg.cholesky(spread)
        gain = jax.scipy.linalg.cho_solve((factor, True), cross).T
        away = y - exact_product(A, mean)
        white = jax.scipy.linalg.solve_triangular(factor, away, lower=True)
        log_prob = -0.5 * jnp.sum(white**2) - jnp.sum(jnp.log(jnp.diagonal(factor)))
        rest = jnp.eye(dim) - exact_product(gain, A)
        kept = exact_product(exact_product(rest, cov), rest.T)
        noise = jnp.asarray(noise_std) ** 2 * exact_product(gain, gain.T)
        return log_prob, mean + exact_product(gain, away), kept + noise

    log_prob, posterior_means, posterior_covs = jax.vmap(given_y)(parts.means, covs)
    check_known(
        np.isfinite,
        log_prob,
        requirement="A C Aᵀ + noise_std² I must be positive definite for every component",
        got="log probabilities of y {}",
    )
    posterior_weights = jax.nn.softmax(parts.log_weights + log_prob)
    return Mixture(posterior_weights, posterior_means.reshape(means.shape), posterior_covs)


def sample_mixture(
    key: Key,
    weights: Real[ArrayLike, "components"],
    means: Real[ArrayLike, "components *event"],
    stds: Stds,
    *,
    num_samples: int,
) -> Float[Array, "{num_samples} *event"]:
    """Draw exact samples of a mixture of Gaussians.

    x_0 = m_k + U_k √Λ_k z,    k ~ w,    C_k = U_k Λ_k U_kᵀ

    Args:
        key: randomness.
        weights: weight of each component, normalised here.
        means: mean of each component.
        stds: standard deviations, or covariances of the flattened data.
        num_samples: how many.

    Raises:
        InputError: as :func:`jaxdiff.oracles.mixture`, or if num_samples < 1.

    Example:
        >>> point = jnp.full((1, 2), 3.0), jnp.zeros(1)  # a single point
        >>> sample_mixture(jax.random.key(0), jnp.ones(1), *point, num_samples=1)
        Array([[3., 3.]], dtype=float32)
    """
    check_count("num_samples must be a positive integer", num_samples)
    parts = components(weights, means, stds)
    which_key, noise_key = jax.random.split(key)
    which = jax.random.categorical(which_key, parts.log_weights, shape=(num_samples,))
    roots = jnp.sqrt(parts.variances)
    z = roots[which] * jax.random.normal(noise_key, (num_samples, parts.means.shape[1]))
    if parts.axes is not None:
        z = exact_product(parts.axes[which], z[:, :, None])[:, :, 0]
    return (parts.means[which] + z).reshape(num_samples, *jnp.shape(means)[1:])


def _covariances(stds: Array, centres: Array) -> Array:
    """Full covariances, also of isotropic components."""
    if stds.ndim == 1:
        return stds[:, None, None] ** 2 * jnp.eye(centres.shape[1])[None]
    check_covariances(stds, centres)
    return stds
