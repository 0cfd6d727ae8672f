"""The evidence lower bound in continuous time, in its two forms.

As the latents of :mod:`jaxdiff.losses.elbo` become dense the sum of divergences becomes an integral
(Kingma et al. 2021, eq. 18; Song et al. 2021b, theorem 1, with λ = g²), the same in each view,

    L_diff = ∫ E −½ SNR'(t) ‖x_0 − x̂_0‖² dt = ∫ E ½ g² ‖s(x_t, t) − ∇log q(x_t|x_0)‖² dt,

from t_min to 1. It depends on the process only through the SNR at its ends: warping time between
them changes the variance of an estimate, not its mean. Girsanov's theorem gives a bound that does
not involve the noise in x_t (Huang et al. 2021, eq. 19; Song et al. 2021b, theorem 3), for the data
as they are at t_min:

    −E log p(x_{t_min}) ≤ −E log π(x_1) + ∫ E [½ g² ‖s‖² + g² ∇·s − D f] dt.

Partial integration of E s·∇log q, as in score matching, and ∫(½g²/σ² + f) dt = log σ(1)/σ(t_min)
turn either into the other: given x_0 the right-hand side is

    KL(q(x_1|x_0) ‖ π) + L_diff + ½ D log 2πe σ²(t_min),

the last being the entropy of q(x_{t_min}|x_0).
"""

import math

import jax
import jax.numpy as jnp

from jaxdiff import divergence
from jaxdiff.arrays import expand_to, sum_events
from jaxdiff.divergence import DivergenceFn
from jaxdiff.losses import weights
from jaxdiff.losses.decoders import Decoder, gaussian
from jaxdiff.losses.denoising import denoising
from jaxdiff.losses.elbo import Elbo, prior_kl, reconstruction
from jaxdiff.losses.times import TimeSample
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, drift_diffusion, perturb
from jaxdiff.typing import Array, Float, Key, Keys, PerEntry


def denoising_rate(
    key: Key | Keys,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    t: Float[Array, "batch"],
) -> Float[Array, "batch"]:
    """Integrand of the bound in its denoising form, at one noisy draw of each example.

    −½ SNR'(t) ‖x_0 − x̂_0‖² = ½ g²/σ² ‖ε − ε̂‖²

    Args:
        key: randomness of the noise; or one key per example.
        denoise_fn: the model.
        process: the forward process.
        x0: data.
        t: times, positive.

    Returns:
        In nats per unit of time.

    Reference: Kingma et al. 2021, eq. 17; Song et al. 2021b, eq. 7 with λ = g².
    """
    return denoising(key, denoise_fn, process, x0, t, weight_fn=weights.likelihood)


def girsanov_rate(
    key: Key | Keys,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    t: Float[Array, "batch"],
    *,
    divergence_fn: DivergenceFn = divergence.exact,
) -> Float[Array, "batch"]:
    """Integrand of the bound in Girsanov's form, at one noisy draw of each example.

    ½ g² ‖s‖² + g² ∇·s − D f,  s = −ε̂/σ

    Args:
        key: randomness of the noise; or one key per example.
        denoise_fn: the model.
        process: the forward process.
        x0: data, D numbers each.
        t: times, positive.
        divergence_fn: of the score; ``partial(divergence.hutchinson, key)`` for high dimension.

    Returns:
        In nats per unit of time.

    Reference: Huang et al. 2021, eq. 19; Song et al. 2021b, eq. 13.
    """
    x_t, _ = perturb(key, process, x0, t)
    sigma = expand_to(process.sigma(t), x0)
    score, slope = divergence_fn(lambda x: -denoise_fn(x, t).eps / sigma, x_t)
    f, g2 = drift_diffusion(process, t)
    return g2 * (0.5 * sum_events(jnp.square(score)) + slope) - x0[0].size * f


def continuous_elbo(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    time: TimeSample,
    *,
    t_min: float,
    decoder: Decoder = gaussian,
    decoder_std: PerEntry | None = None,
) -> Elbo:
    """Estimate the continuous bound of the data, one noisy draw of each example.

    −log p(x_0) ≤ KL(q(x_1|x_0) ‖ π) + E[−log p(x_0|x_{t_min})] + L_diff

    Args:
        key: randomness of the noise.
        denoise_fn: the model.
        process: the forward process.
        x0: data.
        time: one time per example with its weight, drawn on [t_min, 1] by
            :mod:`jaxdiff.losses.times`; ``importance`` with ``weights.likelihood`` has the least
            variance.
        t_min: time of the least noisy latent, with σ(t_min) > 0.
        decoder: p(x_0 | x̂_0), from :mod:`jaxdiff.losses.decoders`.
        decoder_std: its standard deviation; σ/α at t_min if None.

    Returns:
        ``Elbo(prior, reconstruction, denoising)``, in nats, unbiased.

    Example:
        >>> import jax
        >>> from jaxdiff import oracles, processes
        >>> from jaxdiff.losses import times
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> @jax.jit
        ... def bound(time_key, key, x0):
        ...     time = times.importance(time_key, 4, process, weights.likelihood, t_min=0.01)
        ...     return continuous_elbo(key, exact, process, x0, time, t_min=0.01)
        >>> bound(jax.random.key(0), jax.random.key(1), jnp.zeros((4, 2))).denoising.shape
        (4,)

    Reference: Kingma et al. 2021, eq. 11 and 18.
    """
    noise_key, decoder_key = jax.random.split(key)
    rate = denoising_rate(noise_key, denoise_fn, process, x0, time.t)
    return Elbo(
        prior=prior_kl(process, x0, 1.0),
        reconstruction=reconstruction(
            decoder_key, denoise_fn, process, x0, t_min, decoder=decoder, std=decoder_std
        ),
        denoising=(1 - t_min) * time.weight * rate,
    )


def girsanov_bound(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    time: TimeSample,
    *,
    t_min: float,
    divergence_fn: DivergenceFn = divergence.exact,
) -> Float[Array, "batch"]:
    """Bound −log p of the data as they are at t_min, by Girsanov's theorem.

    −E log π(x_1) + (1 − t_min) · weight · [½ g² ‖s‖² + g² ∇·s − D f]

    Args:
        key: randomness of the noise.
        denoise_fn: the model.
        process: the forward process.
        x0: data.
        time: one time per example with its weight, as in :func:`continuous_elbo`.
        t_min: time of the data that are bounded, positive.
        divergence_fn: as in :func:`girsanov_rate`.

    Returns:
        In nats, unbiased for a bound on −E log p_{t_min}(x_{t_min}) given x_0.

    Reference: Huang et al. 2021, eq. 19; Song et al. 2021b, theorem 3.
    """
    rate = girsanov_rate(key, denoise_fn, process, x0, time.t, divergence_fn=divergence_fn)
    return prior_cross_entropy(process, x0) + (1 - t_min) * time.weight * rate


def prior_cross_entropy(
    process: Process, x0: Float[Array, "batch *event"]
) -> Float[Array, "batch"]:
    """Cross entropy from the last latent to the prior, in closed form.

    −E log π(x_1) = KL(q(x_1|x_0) ‖ π) + ½ D log 2πe σ²(1)

    Args:
        process: the forward process.
        x0: data, D numbers each.

    Returns:
        In nats.
    """
    entropy = 0.5 * x0[0].size * jnp.log(2 * math.pi * math.e * process.variance(1.0))
    return prior_kl(process, x0, 1.0) + entropy
