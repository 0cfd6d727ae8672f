"""The same bound in its consistency form, over the two neighbours of each latent.

Without conditioning the forward step on x_0, the chain's evidence lower bound reads

    −log p(x_0) ≤ E KL(q(x_{t_0}|x_{t_1}) ‖ p(x_{t_0}))                 prior
                + E[−log p(x_0 | x_{t_n})]                              reconstruction
                + Σ_k E KL(q(x_{t_k}|x_{t_{k+1}}) ‖ p(x_{t_k}|x_{t_{k−1}}))

where the sum meets every latent but the first from both sides, x_0 itself standing beyond the last.
Expectation for expectation it is the bound of :mod:`jaxdiff.losses.elbo`; but each term is a random
function of two latents instead of one, and they nearly cancel, so one draw of it varies far more.
"""

import jax
import jax.numpy as jnp

from jaxdiff.arrays import expand_to
from jaxdiff.losses.decoders import Decoder, gaussian
from jaxdiff.losses.elbo import Elbo, check_latents, reconstruction
from jaxdiff.losses.reverse_step import fraction_of, gaussian_kl, log_variance
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, perturb, posterior, transition
from jaxdiff.typing import Array, ArrayLike, Key


def consistency_terms(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Array,
    *,
    times: Array,
    variance_fraction: ArrayLike | None = None,
    decoder: Decoder = gaussian,
    decoder_std: ArrayLike | None = None,
) -> Elbo:
    """Estimate the bound in its consistency form, two noisy draws per latent.

    Args:
        key: randomness of the noise.
        denoise_fn: the model.
        process: the forward process.
        x0: data, ``[batch, ...]``.
        times: of the latents, ``[n + 1]``, strictly decreasing, the last above 0.
        variance_fraction: as in :func:`jaxdiff.losses.elbo_terms`.
        decoder: as there.
        decoder_std: as there.

    Returns:
        ``Elbo(prior, reconstruction, denoising)``: the mean of its sum is that of ``elbo_terms``;
        prior and denoising by themselves are divided otherwise.

    Raises:
        InputError: if ``times`` is not such a grid.

    Example:
        >>> from jaxdiff import oracles, processes, schedules
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> x0, times = jnp.zeros((4, 2)), schedules.uniform_times(9, t_min=0.1)
        >>> consistency_terms(jax.random.key(0), exact, process, x0, times=times).denoising.shape
        (4,)

    Reference: Luo 2022 (Understanding diffusion models), eq. 45.
    """
    times = jnp.asarray(times)
    check_latents(times)
    prior_key, chain_key, last_key, decoder_key = jax.random.split(key, 4)

    def step(x_k: tuple[Array, Array], x_t: Array, s: Array, t: Array) -> Array:
        """KL of the forward law of x_s, by its mean and log variance, from the model's step."""
        estimate = denoise_fn(x_t, t)
        mean, _ = posterior(process, x_t, estimate.x0, s=s, t=t)
        fraction = fraction_of(estimate, variance_fraction)
        return gaussian_kl(*x_k, mean, log_variance(process, fraction, x0, s=s, t=t))

    def between(total: Array, inputs: tuple[Key, Array, Array, Array]) -> tuple[Array, None]:
        key, t, s, before = inputs
        early_key, late_key = jax.random.split(key)
        x_before, _ = perturb(early_key, process, x0, before)
        forward = _forward(process, x_before, s=before, t=s)
        x_t = _walk(late_key, process, x_before, s=before, t=t)
        return total + step(forward, x_t, s, t), None

    keys = jax.random.split(chain_key, len(times) - 2)
    nothing = jnp.zeros(x0.shape[0], x0.dtype)
    total, _ = jax.lax.scan(between, nothing, (keys, times[:-2], times[1:-1], times[2:]))

    x_t, _ = perturb(last_key, process, x0, times[-2])
    log_var = expand_to(2 * jnp.log(process.sigma(times[-1])), x0)
    total += step((process.alpha(times[-1]) * x0, log_var), x_t, times[-1], times[-2])

    x_before, _ = perturb(prior_key, process, x0, times[1])
    forward = _forward(process, x_before, s=times[1], t=times[0])
    return Elbo(
        prior=gaussian_kl(*forward, 0.0, 2 * jnp.log(process.sigma(1.0))),
        reconstruction=reconstruction(
            decoder_key, denoise_fn, process, x0, times[-1], decoder=decoder, std=decoder_std
        ),
        denoising=total,
    )


def _forward(process: Process, x_s: Array, *, s: Array, t: Array) -> tuple[Array, Array]:
    """Mean and log variance of x_t given x_s."""
    scale, std = transition(process, s=s, t=t)
    return scale * x_s, 2 * jnp.log(std)


def _walk(key: Key, process: Process, x_s: Array, *, s: Array, t: Array) -> Array:
    """Draw x_t given x_s."""
    scale, std = transition(process, s=s, t=t)
    return scale * x_s + std * jax.random.normal(key, x_s.shape, x_s.dtype)
