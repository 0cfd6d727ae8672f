"""Thresholding: restrict the estimate of the data to the range of the data.

A wrapped model changes x̂_0 to x̂_0' and attributes the difference to the noise,

    ε̂' = ε̂ + (α/σ)(x̂_0 − x̂_0'),    so that still α x̂_0' + σ ε̂' = x_t.

At t = 0 of a process with σ(0) = 0 there is no noise: x_t is data, ε̂ is unchanged, and only x̂_0 is
restricted to the range.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import expand_to
from jaxdiff.checks import check_known, known_scalar
from jaxdiff.guidance.base import with_data
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
        low: minimum of the data.
        high: maximum of the data.

    Returns:
        ``denoise_fn(x_t, t)``, with the estimate's other fields unchanged.

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
    """Clip x̂_0 at a quantile of its values, and scale it back to the range of the data.

    q = max(quantile of |x̂_0|, bound),    x̂_0' = min(max(x̂_0, −q), q) · bound/q

    An example with at least the fraction ``quantile`` of its values in the range is only clipped;
    otherwise it is scaled, so that values beyond the range do not all saturate.

    Args:
        denoise_fn: the model.
        process: the forward process.
        quantile: fraction of an example's values that is not clipped, in [0, 1].
        bound: data are in [−bound, bound], positive.

    Returns:
        ``denoise_fn(x_t, t)``, with the estimate's other fields unchanged.

    Raises:
        InputError: if quantile is outside [0, 1], or bound is not positive.

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

    def threshold(x0: Array) -> Array:
        flat = jnp.abs(x0).reshape(x0.shape[0], -1)
        q = jnp.maximum(jnp.quantile(flat, jnp.asarray(quantile), axis=1), bound)
        return jnp.asarray(bound * jnp.clip(x0 / expand_to(q, x0), -1.0, 1.0))

    return _mapped(denoise_fn, process, threshold)


def _mapped(
    denoise_fn: DenoiseFn, process: Process, threshold: Callable[[Array], Array]
) -> DenoiseFn:
    """Apply ``threshold`` to x̂_0, and attribute the difference to ε̂."""

    def wrapped(x_t: Array, t: ArrayLike) -> Estimate:
        estimate = denoise_fn(x_t, t)
        return with_data(estimate, threshold(estimate.x0), process, t)

    return wrapped
