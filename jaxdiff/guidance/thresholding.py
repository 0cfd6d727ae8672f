"""Thresholding: hold the estimate of the data to the range that data have.

A wrapped model moves x̂_0 to x̂_0' and blames the noise for the rest,

    ε̂' = ε̂ + (α/σ)(x̂_0 − x̂_0'),    so that α x̂_0' + σ ε̂' = x_t still.

At t = 0 of a process with σ(0) = 0 there is no noise to blame: x_t is data, ε̂ stays what it was,
and only x̂_0 is held to the range.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import SIGMA_FLOOR, expand_to
from jaxdiff.checks import check_known, known_scalar
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Real, Scalar


def clip_denoised(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    low: Real[ArrayLike, "..."] = -1.0,
    high: Real[ArrayLike, "..."] = 1.0,
) -> DenoiseFn:
    """Clip x̂_0 to the range of the data (static thresholding).

    x̂_0' = min(max(x̂_0, low), high)

    Args:
        denoise_fn: the model.
        process: the forward process.
        low: least value that data take.
        high: greatest value that data take.

    Returns:
        ``denoise_fn(x_t, t)``, with the estimate's other fields as they were.

    Raises:
        InputError: if not low < high.

    Example:
        >>> from jaxdiff.predictions import Denoised
        >>> from jaxdiff.processes import VE
        >>> process = VE(sigma_min=0.01, sigma_max=4.0)
        >>> model = clip_denoised(lambda x, t: Denoised(x, 0 * x), process)
        >>> [float(view[0, 0]) for view in model(jnp.array([[3.0]]), 1.0)]  # 1 + 4 · 0.5 = 3
        [1.0, 0.5]

    Reference: Ho et al. 2020 (the released code); Saharia et al. 2022 (Imagen), section 2.3.
    """
    requirement = "low must be less than high"
    check_known(np.less, low, high, requirement=requirement, got="low={}, high={}")
    return _mapped(denoise_fn, process, lambda x0: jnp.clip(x0, low, high))


def dynamic_threshold(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    quantile: Scalar = 0.995,
    bound: Scalar = 1.0,
) -> DenoiseFn:
    """Clip x̂_0 where most of it lies, and scale it back to the range of the data.

    q = max(quantile of |x̂_0|, bound),    x̂_0' = min(max(x̂_0, −q), q) · bound/q

    An example of which the share ``quantile`` lies in the range is clipped and not scaled; of
    another, the values beyond the range no longer all saturate.

    Args:
        denoise_fn: the model.
        process: the forward process.
        quantile: share of an example's values that is not clipped, in [0, 1].
        bound: data lie in [−bound, bound], positive.

    Returns:
        ``denoise_fn(x_t, t)``, with the estimate's other fields as they were.

    Raises:
        InputError: if quantile lies outside [0, 1], or bound is not positive.

    Example:
        >>> from jaxdiff.predictions import Denoised
        >>> from jaxdiff.processes import VE
        >>> model = dynamic_threshold(lambda x, t: Denoised(x, 0 * x), VE(), quantile=0.5)
        >>> model(jnp.array([[-1.0, 2.0, 8.0]]), 1.0).x0
        Array([[-0.5,  1. ,  1. ]], dtype=float32)

    Reference: Saharia et al. 2022 (Imagen), section 2.3.
    """
    known_scalar("quantile must be in [0, 1]", quantile, 0, 1)
    known_scalar("bound must be positive and finite", bound, 0, strict=True)

    def hold(x0: Array) -> Array:
        flat = jnp.abs(x0).reshape(x0.shape[0], -1)
        reach = jnp.maximum(jnp.quantile(flat, jnp.asarray(quantile), axis=1), bound)
        return jnp.asarray(bound * jnp.clip(x0 / expand_to(reach, x0), -1.0, 1.0))

    return _mapped(denoise_fn, process, hold)


def _mapped(denoise_fn: DenoiseFn, process: Process, hold: Callable[[Array], Array]) -> DenoiseFn:
    """Apply ``hold`` to x̂_0, and let ε̂ take up the difference."""

    def wrapped(x_t: Array, t: ArrayLike) -> Estimate:
        estimate = denoise_fn(x_t, t)
        x0 = hold(estimate.x0)
        sigma = process.sigma(t)
        blame = jnp.where(sigma > SIGMA_FLOOR, process.alpha(t) / sigma, 0.0)
        eps = estimate.eps + expand_to(blame, x_t) * (estimate.x0 - x0)
        return estimate._replace(x0=x0, eps=eps)

    return wrapped
