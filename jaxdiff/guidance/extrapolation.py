"""The extrapolation D₀ + s (D₁ − D₀) of two estimates, in an interval of σ/α, with rescaling."""

from collections.abc import Callable
from typing import NamedTuple, TypedDict

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import expand_to, std_of
from jaxdiff.checks import check_known, known_scalar
from jaxdiff.guidance.base import check_same_process
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, InputError, PerExample, Real, Scalar


class GuidanceOptions(TypedDict, total=False):
    """Options of every guidance by a difference.

    process: the forward process, for ``interval`` and ``rescale``.
    interval: (low, high) of σ/α, outside of which the better model is used alone.
    rescale: φ in [0, 1], how much of the spread of the better model's prediction is restored.
    guide_process: the process of the worse model, checked to be ``process``.
    """

    process: Process | None
    interval: tuple[Scalar, Scalar] | None
    rescale: Scalar
    guide_process: Process | None


class Difference(NamedTuple):
    """How two estimates are extrapolated: checked options."""

    scale: Real[Array, ""] | Real[Array, "batch"]
    process: Process | None
    interval: tuple[Scalar, Scalar] | None
    rescale: Scalar | None  # None where it is known to be 0


def difference(
    scale: PerExample | None,
    weight: PerExample | None,
    *,
    process: Process | None = None,
    interval: tuple[Scalar, Scalar] | None = None,
    rescale: Scalar = 0.0,
    guide_process: Process | None = None,
) -> Difference:
    """Check the options of a guidance by a difference.

    Args:
        scale: s, or None.
        weight: w = s − 1, or None.
        process: as in :class:`GuidanceOptions`, like all that follows.
        interval: (low, high) of σ/α.
        rescale: φ.
        guide_process: of the worse model.

    Raises:
        InputError: as :func:`jaxdiff.guidance.classifier_free`.
    """
    if scale is not None and weight is None:
        check_known(np.isfinite, scale, requirement="scale must be finite")
        total = jnp.asarray(scale)
    elif weight is not None and scale is None:
        check_known(np.isfinite, weight, requirement="weight must be finite")
        total = 1 + jnp.asarray(weight)
    else:
        given = "neither" if scale is None else f"both, {scale} and {weight}"
        raise InputError(f"exactly one of scale and weight must be given, got {given}")
    strength = known_scalar("rescale must be in [0, 1]", rescale, 0, 1)
    if interval is not None:
        requirement = "interval must be (low, high) of sigma/alpha with 0 <= low < high"
        check_known(
            lambda low, high: (low >= 0) & (low < high),
            *interval,
            requirement=requirement,
            got="({}, {})",
        )
    for option, used in {
        "interval": interval is not None,
        "rescale": strength != 0,
        "guide_process": guide_process is not None,
    }.items():
        if used and process is None:
            raise InputError(f"process must be given with {option}, got None")
    if process is not None:
        check_same_process(process, guide_process)
    return Difference(total, process, interval, None if strength == 0 else rescale)


def extrapolated(
    alone: DenoiseFn,
    both: Callable[[Array, ArrayLike], tuple[Estimate, Estimate]],
    settings: Difference,
) -> DenoiseFn:
    """Extrapolate two estimates, or outside of the interval use the better model alone.

    Args:
        alone: the better model.
        both: ``(x_t, t) -> (better, worse)``.
        settings: checked options.

    Reference: Kynkäänniemi et al. 2024, section 3.
    """
    scale, process, interval, rescale = settings

    def guided(x_t: Array, t: ArrayLike, factor: Array) -> Estimate:
        better, worse = both(x_t, t)
        s = expand_to(factor.astype(better.x0.dtype), x_t)
        estimate = better._replace(
            x0=s * better.x0 + (1 - s) * worse.x0, eps=s * better.eps + (1 - s) * worse.eps
        )
        if rescale is None or process is None:
            return estimate
        return _rescaled(estimate, better, process.alpha(t), process.sigma(t), rescale)

    def denoise_fn(x_t: Array, t: ArrayLike) -> Estimate:
        if interval is None or process is None:
            return guided(x_t, t, scale)
        ratio = jnp.exp(-0.5 * process.log_snr(jnp.asarray(t)))
        inside = (ratio > interval[0]) & (ratio <= interval[1])
        if inside.ndim:
            return guided(x_t, t, jnp.where(inside, scale, 1.0))
        return jax.lax.cond(inside, lambda: guided(x_t, t, scale), lambda: alone(x_t, t))

    return denoise_fn


def _rescaled(
    estimate: Estimate, better: Estimate, alpha: Array, sigma: Array, strength: Scalar
) -> Estimate:
    """Multiply v = α ε̂ − σ x̂_0 by c: x̂_0 changes by (1 − c) σ v/(α² + σ²), ε̂ by (c − 1) α v/(…)."""
    a, s = expand_to(alpha, estimate.x0), expand_to(sigma, estimate.x0)
    v, reference = (a * each.eps - s * each.x0 for each in (estimate, better))
    ratio = _spread(reference) / _spread(v)
    change = expand_to(strength * (ratio - 1), v) * v / (a**2 + s**2)
    return estimate._replace(x0=estimate.x0 - s * change, eps=estimate.eps + a * change)


def _spread(x: Array) -> Array:
    """Standard deviation over each example."""
    return std_of(jnp.var(x.reshape(x.shape[0], -1), axis=1))
