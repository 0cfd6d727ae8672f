"""Decoders p(x_0 | x̂_0): the log probability of the data given the last estimate.

    gaussian              log N(x_0; x̂_0, s²), a density
    discretized_gaussian  log ∫ N(u; x̂_0, s²) du over the interval of x_0's level, a probability
    bernoulli             x_0 is one of two levels, x̂_0 its mean, a probability

All take ``(x0, mean, std)`` and sum over the event, in nats; further options are bound by
``functools.partial``.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxdiff.arrays import expand_to, sum_events
from jaxdiff.typing import Array, Float, InputError, PerEntry

Decoder = Callable[
    [Float[Array, "batch *event"], Float[Array, "batch *event"], PerEntry],
    Float[Array, "batch"],
]
"""``(x0, mean, std) -> log probabilities``, in nats."""


def gaussian(
    x0: Float[Array, "batch *event"], mean: Float[Array, "batch *event"], std: PerEntry
) -> Float[Array, "batch"]:
    """Log density of the data around the estimate.

    log N(x_0; x̂_0, std² I)

    Args:
        x0: data.
        mean: the estimate x̂_0.
        std: standard deviation.

    Returns:
        In nats.
    """
    return sum_events(jax.scipy.stats.norm.logpdf(x0, mean, expand_to(std, x0)))


def discretized_gaussian(
    x0: Float[Array, "batch *event"],
    mean: Float[Array, "batch *event"],
    std: PerEntry,
    *,
    num_levels: int = 256,
    low: float = -1.0,
    high: float = 1.0,
) -> Float[Array, "batch"]:
    """Log probability of evenly spaced levels: the mass of a Gaussian on each level's interval.

    log [Φ((x_0 + w/2 − x̂_0)/s) − Φ((x_0 − w/2 − x̂_0)/s)],  w = (high − low)/(L − 1)

    The outermost intervals reach to infinity, so that the L probabilities add up to 1.

    Args:
        x0: data on the levels low, low + w, …, high.
        mean: the estimate x̂_0.
        std: standard deviation.
        num_levels: number L of levels.
        low: the first level.
        high: the last level.

    Returns:
        In nats; finite, with finite gradients, for any estimate.

    Raises:
        InputError: if there are fewer than two levels, or they do not increase.

    Example:
        >>> three = jnp.array([[-1.0], [0.0], [1.0]])
        >>> log_prob = discretized_gaussian(three, jnp.zeros((3, 1)), 0.7, num_levels=3)
        >>> round(float(jnp.sum(jnp.exp(log_prob))), 5)
        1.0

    Reference: Ho et al. 2020, eq. 13.
    """
    if num_levels < 2 or not -math.inf < low < high < math.inf:
        raise InputError(
            "num_levels must be at least 2 and low must be less than high, both finite, got "
            f"num_levels={num_levels}, low={low}, high={high}"
        )
    half, std = 0.5 * (high - low) / (num_levels - 1), expand_to(std, x0)
    above = jnp.where(x0 > high - half, FAR, (x0 - mean + half) / std)
    below = jnp.where(x0 < low + half, -FAR, (x0 - mean - half) / std)
    # The mirrored interval has the same mass, and in the left tail log Φ keeps its precision.
    mirrored = above + below > 0
    left, right = jnp.where(mirrored, -above, below), jnp.where(mirrored, -below, above)
    log_right = log_ndtr(right)
    log_ratio = jnp.maximum(log_right - log_ndtr(left), jnp.finfo(x0.dtype).tiny)
    return sum_events(log_right + jnp.log(-jnp.expm1(-log_ratio)))


def bernoulli(
    x0: Float[Array, "batch *event"],
    mean: Float[Array, "batch *event"],
    std: PerEntry,
    *,
    low: float = -1.0,
    high: float = 1.0,
) -> Float[Array, "batch"]:
    """Log probability of data on two levels, with the estimate as their mean.

    log p = y log q + (1 − y) log(1 − q),  q = (x̂_0 − low)/(high − low), y the same of x_0

    Args:
        x0: data, each low or high.
        mean: the estimate x̂_0; probabilities are kept within 1e-6 of 0 and 1.
        std: unused: the mean of two levels determines their distribution.
        low: the level of probability 1 − q.
        high: the level of probability q.

    Returns:
        In nats.

    Example:
        >>> half = jnp.zeros((1, 2))
        >>> bernoulli(jnp.array([[-1.0, 1.0]]), half, 0.0)  # two fair coins
        Array([-1.3862944], dtype=float32)

    Reference: Sohl-Dickstein et al. 2015, appendix B.
    """
    y, q = (x0 - low) / (high - low), (mean - low) / (high - low)
    q = jnp.clip(q, 1e-6, 1 - 1e-6)
    return sum_events(y * jnp.log(q) + (1 - y) * jnp.log1p(-q))


@jax.custom_jvp
def log_ndtr(z: Array) -> Array:
    """Log Φ(z), whose slope φ/Φ is not computed as exp(log φ − log Φ) where both are huge."""
    return jax.scipy.special.log_ndtr(z)


@log_ndtr.defjvp
def _log_ndtr_slope(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    """Value and slope: φ/Φ, by its asymptotic series below −30."""
    (z,), (slope,) = primals, tangents
    value = log_ndtr(z)
    far = jnp.minimum(z, -30.0)
    asymptotic = -far - 1 / far + 2 / far**3 - 10 / far**5
    near = jnp.maximum(z, -30.0)
    ratio = jnp.exp(jax.scipy.stats.norm.logpdf(near) - jnp.where(z < -30, 0.0, value))
    return value, slope * jnp.where(z < -30, asymptotic, ratio)


FAR = 1e15
"""The far end of the outermost intervals, in standard deviations; log Φ(−1e15) is finite."""
