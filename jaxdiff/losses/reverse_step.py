"""One step of the reverse chain compared with the posterior that it approximates.

The means of the posterior of x_s given x_t and x_0 and of the model's step differ only through
x_0 − x̂_0, and the model may choose its variance between two ends (Nichol & Dhariwal 2021,
eq. 15),

    log variance = (1 − v) log σ²_ts σ_s²/σ_t² + v log σ²_ts,

where v = 0 is the posterior's, exact for a single data point, and v = 1 the transition's, exact for
data N(0, I). The excess over the posterior is δ = v log(σ_t²/σ_s²), in which the vanishing factor
cancels, and

    KL = ½ Σ_i [e^{−δ} − 1 + δ + e^{−δ} (SNR_s − SNR_t)(x_0 − x̂_0)²].
"""

import jax.numpy as jnp

from jaxdiff.arrays import expand_to, sum_events
from jaxdiff.predictions import Estimate
from jaxdiff.processes import Process, one_minus_snr_ratio
from jaxdiff.typing import Array, Float, PerEntry, PerExample


def log_variance(
    process: Process,
    fraction: PerEntry,
    x: Float[Array, "batch *event"],
    *,
    s: PerExample,
    t: PerExample,
) -> Float[Array, ""] | Float[Array, "batch *#event"]:
    """Log variance of the model's step from t to s.

    Args:
        process: the forward process.
        fraction: v.
        x: the sample; only its shape is used.
        s: earlier time, below t.
        t: later time.

    Returns:
        Finite at s = 0 and at t = 1.

    Reference: Nichol & Dhariwal 2021, eq. 15.
    """
    small = 2 * jnp.log(process.sigma(s)) + jnp.log(one_minus_snr_ratio(process, s=s, t=t))
    return expand_to(small, x) + excess(process, fraction, x, s=s, t=t)


def excess(
    process: Process,
    fraction: PerEntry,
    x: Float[Array, "batch *event"],
    *,
    s: PerExample,
    t: PerExample,
) -> Float[Array, ""] | Float[Array, "batch *#event"]:
    """Log variance of the model's step minus that of the posterior: δ = v log(σ_t²/σ_s²)."""
    widest = 2 * (jnp.log(process.sigma(t)) - jnp.log(process.sigma(s)))
    return expand_to(fraction, x) * expand_to(widest, x)


def posterior_kl(
    process: Process,
    x0: Float[Array, "batch *event"],
    denoised: Estimate,
    *,
    s: PerExample,
    t: PerExample,
    variance_fraction: PerEntry | None = None,
) -> Float[Array, "batch"]:
    """KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t)) of one step, in nats.

    Args:
        process: the forward process.
        x0: data.
        denoised: the model's estimate at t.
        s: earlier time, with σ(s) > 0.
        t: later time.
        variance_fraction: v; by default the model's own, or 0 if it has none.

    Reference: Ho et al. 2020, eq. 8; Nichol & Dhariwal 2021, eq. 15.
    """
    fraction = fraction_of(denoised, variance_fraction)
    gained = jnp.exp(process.log_snr(s)) * one_minus_snr_ratio(process, s=s, t=t)  # SNR_s − SNR_t
    error = expand_to(gained, x0) * jnp.square(x0 - denoised.x0)
    delta = jnp.broadcast_to(excess(process, fraction, x0, s=s, t=t), x0.shape)
    return 0.5 * sum_events(jnp.expm1(-delta) + delta + jnp.exp(-delta) * error)


def fraction_of(denoised: Estimate, variance_fraction: PerEntry | None) -> PerEntry:
    """The given fraction; else the model's own; else that of the posterior, 0."""
    if variance_fraction is not None:
        return variance_fraction
    return getattr(denoised, "variance_fraction", 0.0)


def gaussian_kl(
    mean_q: Float[Array, "batch *event"],
    log_variance_q: Float[Array, ""] | Float[Array, "batch *#event"],
    mean_p: PerEntry,
    log_variance_p: Float[Array, ""] | Float[Array, "batch *#event"],
) -> Float[Array, "batch"]:
    """KL(q ‖ p) of two Gaussians with independent components, in nats.

    ½ Σ_i [e^{d} − 1 − d + (μ_q − μ_p)² e^{−log σ_p²}],  d = log σ_q² − log σ_p²
    """
    d = log_variance_q - log_variance_p
    distance = jnp.square(mean_q - mean_p) * jnp.exp(-log_variance_p)
    return 0.5 * sum_events(jnp.broadcast_to(jnp.expm1(d) - d, distance.shape) + distance)
