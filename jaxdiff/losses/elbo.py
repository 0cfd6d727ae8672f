"""The evidence lower bound of a chain of latents, for any process on any grid of times.

With latents at 1 ≥ t_0 > t_1 > … > t_n > 0 (Sohl-Dickstein et al. 2015; Ho et al. 2020, eq. 5),

    −log p(x_0) ≤ KL(q(x_{t_0}|x_0) ‖ p(x_{t_0}))                       prior
                + E[−log p(x_0 | x_{t_n})]                              reconstruction
                + Σ_k E KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t))                denoising

over the pairs (t, s) = (t_k, t_{k+1}). Where the reverse step has the posterior's own variance,
each KL is

    ½ (SNR_s − SNR_t) ‖x_0 − x̂_0(x_t)‖²                                (Kingma et al. 2021, eq. 13)

and :mod:`jaxdiff.losses.reverse_step` has the other cases. DDPM's own bound has latents at i/T,
i = T … 1. Its gap does not close with T: where SNR grows as 1/t, the last step doubles it however
short it is, and for smooth data a gap of D/2·0.577 nats (Euler's constant) remains even with the
exact model. With a fixed last time the gap falls as 1/n.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.arrays import sum_events
from jaxdiff.checks import check_count, check_known
from jaxdiff.losses.decoders import Decoder, gaussian
from jaxdiff.losses.reverse_step import posterior_kl
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, perturb
from jaxdiff.typing import Array, Float, InputError, Key, Keys, PerEntry, Scalar, Shaped


class Elbo(NamedTuple):
    """The three parts of the bound, in nats; −log p(x_0) is at most their sum."""

    prior: Float[Array, "batch"]
    reconstruction: Float[Array, "batch"]
    denoising: Float[Array, "batch"]


def elbo_terms(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    *,
    times: Float[Array, "times"],
    num_terms: int | None = None,
    variance_fraction: PerEntry | None = None,
    decoder: Decoder = gaussian,
    decoder_std: PerEntry | None = None,
) -> Elbo:
    """Estimate the bound in its denoising form, one noisy draw per latent.

    Args:
        key: randomness of the noise.
        denoise_fn: the model.
        process: the forward process.
        x0: data, D numbers each.
        times: times of the n + 1 latents, strictly decreasing, the last above 0.
        num_terms: number of the n denoising terms to draw per example, at random (with
            :func:`denoising_draws`, which allows for a standard error); by default all of them, one
            after another in constant memory.
        variance_fraction: reverse variance, from 0, the posterior's ("small"), to 1, the
            transition's ("large"); by default the model's own, or 0 if it has none.
        decoder: p(x_0 | x̂_0), from :mod:`jaxdiff.losses.decoders`.
        decoder_std: its standard deviation; σ/α at t_n if None.

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
    check_latents(times)
    chain_key, decoder_key = jax.random.split(key)
    if num_terms is not None:
        draws = denoising_draws(
            chain_key,
            denoise_fn,
            process,
            x0,
            times=times,
            num_terms=num_terms,
            variance_fraction=variance_fraction,
        )
        denoising = jnp.mean(draws, axis=0)
    else:

        def add(total: Array, inputs: tuple[Key, Array, Array]) -> tuple[Array, None]:
            key, t, s = inputs
            x_t, _ = perturb(key, process, x0, t)
            estimate = denoise_fn(x_t, t)
            kl = posterior_kl(process, x0, estimate, s=s, t=t, variance_fraction=variance_fraction)
            return total + kl, None

        keys = jax.random.split(chain_key, len(times) - 1)
        nothing = jnp.zeros(x0.shape[0], x0.dtype)
        denoising, _ = jax.lax.scan(add, nothing, (keys, times[:-1], times[1:]))
    return Elbo(
        prior=prior_kl(process, x0, times[0]),
        reconstruction=reconstruction(
            decoder_key, denoise_fn, process, x0, times[-1], decoder=decoder, std=decoder_std
        ),
        denoising=denoising,
    )


def denoising_draws(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    *,
    times: Float[Array, "times"],
    num_terms: int,
    variance_fraction: PerEntry | None = None,
) -> Float[Array, "{num_terms} batch"]:
    """Draw terms of the denoising part at random, each divergence divided by its probability.

    A pair (t, s) is drawn with probability proportional to log SNR_s − log SNR_t, which makes the
    draws of ½ (SNR_s − SNR_t) ‖x_0 − x̂_0‖² nearly equal: with uniform pairs a few terms would
    dominate.

    Args:
        key: randomness of the choice and of the noise.
        denoise_fn: the model.
        process: the forward process.
        x0: data.
        times: times of the latents, as in :func:`elbo_terms`.
        num_terms: number of terms to draw per example.
        variance_fraction: as in :func:`elbo_terms`.

    Returns:
        In nats: independent draws, each unbiased for the whole part, so that
        :func:`jaxdiff.losses.mean_and_error` over the first axis estimates it with its standard
        error.

    Raises:
        InputError: if ``times`` is not such a grid, or ``num_terms`` is below 1.

    Reference: Ho et al. 2020, section 3.4.
    """
    times = jnp.asarray(times)
    check_latents(times)
    check_count("num_terms must be a positive integer", num_terms)
    pick_key, noise_key = jax.random.split(key)
    gaps = jnp.diff(process.log_snr(times))
    log_p = jax.nn.log_softmax(jnp.log(gaps))
    picked = jax.random.categorical(pick_key, log_p, shape=(num_terms, x0.shape[0]))

    def draw(inputs: tuple[Key, Array]) -> Array:
        key, pair = inputs
        t, s = times[pair], times[pair + 1]
        x_t, _ = perturb(key, process, x0, t)
        estimate = denoise_fn(x_t, t)
        kl = posterior_kl(process, x0, estimate, s=s, t=t, variance_fraction=variance_fraction)
        return jnp.exp(-log_p[pair]) * kl

    return jax.lax.map(draw, (jax.random.split(noise_key, num_terms), picked))


def prior_kl(
    process: Process, x0: Float[Array, "batch *event"], t: Scalar
) -> Float[Array, "batch"]:
    """The prior term: the divergence of the noisiest latent from the prior.

    KL(N(α x_0, σ_t²) ‖ N(0, σ_1²)) = ½[D(r − 1 − log r) + α²‖x_0‖²/σ_1²],  r = σ_t²/σ_1²

    Args:
        process: the forward process.
        x0: data, D numbers each.
        t: time.

    Returns:
        In nats.
    """
    log_ratio = jnp.log(process.variance(t)) - jnp.log(process.variance(1.0))
    spread = x0[0].size * (jnp.expm1(log_ratio) - log_ratio)
    shift = sum_events(jnp.square(process.alpha(t) * x0)) / process.variance(1.0)
    return 0.5 * (spread + shift)


def reconstruction(
    key: Key | Keys,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    t: Scalar,
    *,
    decoder: Decoder = gaussian,
    std: PerEntry | None = None,
) -> Float[Array, "batch"]:
    """The reconstruction term, −log p(x_0 | x̂_0(x_t)) at one draw of the least noisy latent.

    Args:
        key: randomness of the noise; or one key per example.
        denoise_fn: the model.
        process: the forward process.
        x0: data.
        t: time, with σ(t) > 0.
        decoder: p(x_0 | x̂_0).
        std: its standard deviation; σ/α if None.

    Returns:
        In nats.
    """
    x_t, _ = perturb(key, process, x0, t)
    std = process.sigma(t) / process.alpha(t) if std is None else std
    return -decoder(x0, denoise_fn(x_t, t).x0, std)


def check_latents(times: Shaped[Array, "..."]) -> None:
    """Check that times are valid for a chain of latents.

    Raises:
        InputError: if they do not decrease strictly, or not stay above 0.
    """
    if times.ndim != 1 or times.shape[0] < 2:
        raise InputError(f"times must be a vector of at least two times, got shape {times.shape}")
    check_known(
        lambda grid: grid[-1] > 0 and np.all(np.diff(grid) < 0),
        times,
        requirement="times must decrease strictly and stay above 0",
    )
