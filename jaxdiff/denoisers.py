"""L4: from a network with its parameters to a denoise_fn.

The network receives its input at unit variance, x_t / √(α²σ_d² + σ²), and one number for the noise
level; it returns a prediction of one of the kinds of :mod:`jaxdiff.predictions`.
With kind "edm" this is the preconditioning of Karras et al. 2022, for every process. A network that
has learned its reverse variance predicts twice as many channels, the second half being 2v − 1
(Nichol & Dhariwal 2021). The code that uses a denoise_fn does not depend on these choices.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import expand_to
from jaxdiff.checks import check_known
from jaxdiff.predictions import (
    DenoisedWithVariance,
    DenoiseFn,
    Estimate,
    Kind,
    check_kind,
    to_denoised,
)
from jaxdiff.processes import Process
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Scalar

OF_NOISE = ("eps", "score", "sigma_score")
"""Kinds of prediction from which the data are computed by dividing by α."""

NoiseCondFn = Callable[[Process, Float[Array, "batch"]], Float[Array, "batch"]]


def time(process: Process, t: Float[Array, "batch"]) -> Float[Array, "batch"]:
    """The noise level as time itself."""
    return t


def log_sigma(process: Process, t: Float[Array, "batch"]) -> Float[Array, "batch"]:
    """The noise level as log(σ/α): equal for all processes at equal SNR."""
    return -0.5 * process.log_snr(t)


def log_snr(process: Process, t: Float[Array, "batch"]) -> Float[Array, "batch"]:
    """The noise level as log(α²/σ²)."""
    return process.log_snr(t)


def chain_index(process: Process, t: Float[Array, "batch"]) -> Float[Array, "batch"]:
    """The noise level as the index in the chain, 0 to T − 1, which published networks take.

    On DDPM's chain the index t·T − 1 counts steps from the least noise; for NCSN's noise scales
    the index T − t·T counts from the largest σ.

    Raises:
        InputError: if the process is not a chain.
    """
    return process.index(t)


def denoiser(
    network: Callable[
        [Float[Array, "batch *event"], Float[Array, "batch"]], Float[Array, "batch ..."]
    ],
    process: Process,
    *,
    kind: Kind,
    data_std: Scalar = 1.0,
    noise_cond_fn: NoiseCondFn = time,
    scale_input: bool = True,
    learned_variance: bool = False,
) -> DenoiseFn:
    """Wrap a network as the model that losses and solvers use.

    x̂_0, ε̂ = to_denoised(network(x_t / √(α²σ_d² + σ²), noise_cond_fn(t)), x_t, α, σ, kind)

    Args:
        network: ``(x, noise_cond) -> output``, parameters, labels and dropout already bound.
        process: the forward process.
        kind: what the network predicts: "eps", "x0", "v", "score", "sigma_score" or "edm".
        data_std: standard deviation σ_d of the data.
        noise_cond_fn: how the noise level is given to the network: :func:`time`,
            :func:`log_sigma`, :func:`log_snr`, :func:`chain_index`, or any function of
            ``(process, t)``.
        scale_input: whether to scale the input to unit variance; score_sde does not.
        learned_variance: whether the last axis of the output holds two predictions, the second
            being the reverse variance.

    Returns:
        ``denoise_fn(x_t, t) -> Denoised``, or ``DenoisedWithVariance``.

    Raises:
        InputError: if ``kind`` does not exist, or is undefined ("eps" and both scores) because the
            process ends without signal, or data_std is not positive and finite.

    Example:
        >>> from jaxdiff.processes import VP
        >>> denoise_fn = denoiser(lambda x, noise_cond: 0 * x, VP(), kind="eps")
        >>> denoise_fn(jnp.ones((3, 2)), 0.5).eps.shape
        (3, 2)

    Reference: Karras et al. 2022, eq. 7.
    """
    check_kind(kind)
    if kind in OF_NOISE and process.ends_without_signal:
        raise InputError(
            "kind must be x0, v or edm for a chain that ends without signal (its last beta is 1), "
            f"where the noise determines nothing about the data, got {kind!r}"
        )
    check_known(
        lambda std: (std > 0) & np.isfinite(std),
        data_std,
        requirement="data_std must be positive and finite",
    )

    def denoise_fn(x_t: Array, t: ArrayLike) -> Estimate:
        times = jnp.broadcast_to(jnp.asarray(t), x_t.shape[:1])
        alpha, sigma = process.alpha(times), process.sigma(times)
        unit = jnp.sqrt((alpha * data_std) ** 2 + sigma**2) if scale_input else jnp.ones_like(alpha)
        output = network(x_t / expand_to(unit, x_t), noise_cond_fn(process, times))
        if not learned_variance:
            return to_denoised(output, x_t, alpha, sigma, kind=kind, data_std=data_std)
        output, spread = jnp.split(output, 2, axis=-1)
        views = to_denoised(output, x_t, alpha, sigma, kind=kind, data_std=data_std)
        return DenoisedWithVariance(*views, variance_fraction=0.5 * (spread + 1))

    return denoise_fn
