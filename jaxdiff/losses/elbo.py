"""The evidence lower bound of a chain of latents, for any process on any grid of times.

With latents at 1 ≥ t_0 > t_1 > … > t_n > 0 (Sohl-Dickstein et al. 2015; Ho et al. 2020, eq. 5),

    −log p(x_0) ≤ KL(q(x_{t_0}|x_0) ‖ p(x_{t_0}))                       prior
                + E[−log p(x_0 | x_{t_n})]                              reconstruction
                + Σ_k E KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t))                denoising

over the pairs (t, s) = (t_k, t_{k+1}). Where the reverse step is the posterior with x̂_0 in place of
x_0, both Gaussians have the same variance σ_s²(1 − SNR_t/SNR_s), and each KL is

    ½ (SNR_s − SNR_t) ‖x_0 − x̂_0(x_t)‖²                                (Kingma et al. 2021, eq. 13)

DDPM's own bound is that of the latents at i/T, i = T … 1. Its gap does not close with T: where SNR
grows as 1/t, the last step doubles it however short it is, and D/2·0.577 nats (Euler's constant)
remain of the exact model of smooth data. With a fixed last time the gap falls as 1/n.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.arrays import expand_to, known, sum_events
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, lost_share, perturb
from jaxdiff.typing import Array, ArrayLike, InputError, Key


class Elbo(NamedTuple):
    """The three parts of the bound, each ``[batch]``, in nats; −log p(x_0) is at most their sum."""

    prior: Array
    reconstruction: Array
    denoising: Array


def elbo_terms(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Array,
    *,
    times: Array,
    num_terms: int | None = None,
    decoder_std: ArrayLike | None = None,
) -> Elbo:
    """Estimate the bound, one noisy draw per latent, with a Gaussian decoder.

    Args:
        key: randomness of the noise.
        denoise_fn: the model.
        process: the forward process.
        x0: data, ``[batch, ...]``, D numbers each.
        times: of the latents, ``[n + 1]``, strictly decreasing, the last above 0.
        num_terms: how many of the n denoising terms to draw per example, at random; all of them,
            one after the other in constant memory, if absent.
        decoder_std: of p(x_0 | x_{t_n}) = N(x̂_0, std²); σ/α at t_n if absent.

    Returns:
        ``Elbo(prior, reconstruction, denoising)``, unbiased.

    Raises:
        InputError: if ``times`` is not such a grid, or ``num_terms`` is below 1.

    Example:
        >>> from jaxdiff import oracles, processes, schedules
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> x0, times = jnp.zeros((4, 2)), schedules.uniform_times(99, t_min=0.01)
        >>> elbo = elbo_terms(jax.random.key(0), exact, process, x0, times=times)
        >>> bool(jnp.all(elbo.prior < 1e-4))
        True

    Reference: Ho et al. 2020, eq. 5; Kingma et al. 2021, eq. 11 to 13.
    """
    times = jnp.asarray(times)
    _check(times, num_terms)
    num_pairs = times.shape[0] - 1
    chain_key, pick_key, decoder_key = jax.random.split(key, 3)

    def term(key: Key, t: Array, s: Array) -> Array:
        x_t, _ = perturb(key, process, x0, t)
        gained = jnp.exp(process.log_snr(s)) * lost_share(process, s=s, t=t)  # SNR_s − SNR_t
        return 0.5 * gained * sum_events(jnp.square(x0 - denoise_fn(x_t, t).x0))

    def add(total: Array, inputs: tuple[Key, Array, Array]) -> tuple[Array, None]:
        return total + term(*inputs), None

    if num_terms is None:
        pairs, share = (times[:-1], times[1:]), 1.0
    else:
        picked = jax.random.randint(pick_key, (num_terms, x0.shape[0]), 0, num_pairs)
        pairs, share = (times[picked], times[picked + 1]), num_pairs / num_terms
    keys = jax.random.split(chain_key, pairs[0].shape[0])
    total, _ = jax.lax.scan(add, jnp.zeros(x0.shape[0], x0.dtype), (keys, *pairs))

    return Elbo(
        prior=_prior(process, x0, times[0]),
        reconstruction=_decode(decoder_key, denoise_fn, process, x0, times[-1], decoder_std),
        denoising=share * total,
    )


def _prior(process: Process, x0: Array, t: Array) -> Array:
    """KL(N(α x_0, σ_t²) ‖ N(0, σ_1²)) = ½[D(r − 1 − log r) + α²‖x_0‖²/σ_1²], r = σ_t²/σ_1²."""
    log_ratio = jnp.log(process.variance(t)) - jnp.log(process.variance(1.0))
    spread = x0[0].size * (jnp.expm1(log_ratio) - log_ratio)
    shift = sum_events(jnp.square(process.alpha(t) * x0)) / process.variance(1.0)
    return 0.5 * (spread + shift)


def _decode(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Array,
    t: Array,
    decoder_std: ArrayLike | None,
) -> Array:
    """−log N(x_0; x̂_0(x_t), std²) at one draw of x_t."""
    x_t, _ = perturb(key, process, x0, t)
    std = process.sigma(t) / process.alpha(t) if decoder_std is None else jnp.asarray(decoder_std)
    log_prob = jax.scipy.stats.norm.logpdf(x0, denoise_fn(x_t, t).x0, expand_to(std, x0))
    return -sum_events(log_prob)


def _check(times: Array, num_terms: int | None) -> None:
    if times.ndim != 1 or times.shape[0] < 2:
        raise InputError(f"times are those of two latents or more, got shape {times.shape}")
    numbers = known(times)
    if numbers is not None and not (numbers[-1] > 0 and (numbers[1:] < numbers[:-1]).all()):
        raise InputError(f"times of latents decrease strictly and stay above 0, got {times}")
    if num_terms is not None and num_terms < 1:
        raise InputError(f"num_terms is at least 1, got {num_terms}")
