"""DDPM's training losses: the bound at one random step, alone and combined with L_simple.

On a chain of T steps, t = i/T and s = (i − 1)/T, with T times one term of the bound,

    L_vlb    = E_i T · [KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t)) for i > 1,  −log p(x_0|x_t) for i = 1]
    L_simple = E ‖ε − ε̂‖²                       :func:`jaxdiff.losses.denoising`
    L_hybrid = L_simple + λ L_vlb                with x̂_0 held fixed in L_vlb

The mean over i of L_vlb is the bound of :mod:`jaxdiff.losses.elbo` without its prior, which does
not depend on the model. In L_hybrid it trains only the reverse variance (Nichol & Dhariwal 2021,
eq. 16).
"""

import jax
import jax.numpy as jnp

from jaxdiff.arrays import sum_events
from jaxdiff.losses.decoders import Decoder, gaussian
from jaxdiff.losses.reverse_step import posterior_kl
from jaxdiff.predictions import DenoiseFn, Estimate
from jaxdiff.processes import Process, perturb
from jaxdiff.typing import Array, ArrayLike, Float, Key, Keys, PerEntry, Scalar


def vlb(
    key: Key | Keys,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    t: Float[Array, "batch"],
    *,
    num_steps: int,
    variance_fraction: PerEntry | None = None,
    decoder: Decoder = gaussian,
) -> Float[Array, "batch"]:
    """T times one random term of the bound for each example.

    Args:
        key: randomness of the noise.
        denoise_fn: the model.
        process: the forward process.
        x0: data.
        t: nodes i/T of the chain.
        num_steps: length T of the chain.
        variance_fraction: as in :func:`jaxdiff.losses.elbo_terms`.
        decoder: p(x_0 | x̂_0) of the last step, with the std σ/α at 1/T.

    Returns:
        In nats; its mean over t is the bound without the prior.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> t = jnp.arange(1, 5) / 4
        >>> vlb(jax.random.key(0), exact, process, jnp.zeros((4, 2)), t, num_steps=4).shape
        (4,)

    Reference: Ho et al. 2020, eq. 5; Nichol & Dhariwal 2021, eq. 4 to 7.
    """
    x_t, _ = perturb(key, process, x0, t)
    return _term(process, x0, denoise_fn(x_t, t), t, num_steps, variance_fraction, decoder)


def hybrid(
    key: Key | Keys,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    t: Float[Array, "batch"],
    *,
    num_steps: int,
    vlb_weight: Scalar = 1e-3,
    decoder: Decoder = gaussian,
) -> Float[Array, "batch"]:
    """L_simple for the estimate, plus a small multiple of the bound for the learned variance.

    ‖ε − ε̂‖² + λ L_vlb(stop_gradient(x̂_0), v)

    Args:
        key: randomness of the noise.
        denoise_fn: the model, whose estimate has a ``variance_fraction``.
        process: the forward process.
        x0: data.
        t: nodes i/T of the chain.
        num_steps: length T of the chain.
        vlb_weight: λ, the weight of the bound in nats. The published code measures the bound in
            bits, so its λ is 0.001/log 2 in these units.
        decoder: as in :func:`vlb`.

    Reference: Nichol & Dhariwal 2021, eq. 16.
    """
    x_t, eps = perturb(key, process, x0, t)
    estimate = denoise_fn(x_t, t)
    held = estimate._replace(x0=jax.lax.stop_gradient(estimate.x0))
    simple = sum_events(jnp.square(eps - estimate.eps))
    return simple + vlb_weight * _term(process, x0, held, t, num_steps, None, decoder)


def _term(
    process: Process,
    x0: Array,
    estimate: Estimate,
    t: Array,
    num_steps: int,
    variance_fraction: ArrayLike | None,
    decoder: Decoder,
) -> Array:
    """T times the divergence of a step, or the decoder term for the step that ends at the data."""
    last = t < 1.5 / num_steps
    s = jnp.where(last, 0.5 * t, t - 1 / num_steps)  # any s > 0 where the divergence is not used
    kl = posterior_kl(process, x0, estimate, s=s, t=t, variance_fraction=variance_fraction)
    std = process.sigma(t) / process.alpha(t)
    return num_steps * jnp.where(last, -decoder(x0, estimate.x0, std), kl)
