"""The same bound in its consistency form, over the two neighbours of each latent.

Without conditioning the forward step on x_0, the chain's evidence lower bound is

    −log p(x_0) ≤ E KL(q(x_{t_0}|x_{t_1}) ‖ p(x_{t_0}))                 prior
                + E[−log p(x_0 | x_{t_n})]                              reconstruction
                + Σ_k E[log q(x_{t_k}|x_{t_{k+1}}) − log p(x_{t_k}|x_{t_{k−1}})]

where the sum reaches every latent except the first from both sides, with x_0 itself after the last.
Let b, s, t be the times of three neighbours, b the least noisy. Given x_b and x_t, the latent
between them has the bridge q(x_s|x_b, x_t) = q(x_s|x_b) q(x_t|x_s)/q(x_t|x_b), where q(x_t|x_s) and
q(x_t|x_b) are Gaussians about their own means, so a term of the sum is, in expectation,

    E KL(q(x_s|x_b, x_t) ‖ p(x_s|x_t)) − ½D log(σ²_tb/σ²_ts).

The published form (Luo 2022, eq. 45), E KL(q(x_s|x_b) ‖ p(x_s|x_t)), draws x_s independently of the
x_t that follows from it: it is no smaller, and far from the bound (41 nats against 6, over 20
latents).

In expectation this is the bound of :mod:`jaxdiff.losses.elbo`; but a term is a random function of
two latents instead of one, so a single draw has more variance.
"""

import jax
import jax.numpy as jnp

from jaxdiff.arrays import expand_to
from jaxdiff.losses.decoders import Decoder, gaussian
from jaxdiff.losses.elbo import Elbo, check_latents, reconstruction
from jaxdiff.losses.reverse_step import fraction_of, gaussian_kl, log_variance
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, perturb, posterior, transition
from jaxdiff.typing import Array, Float, Key, PerEntry


def consistency_terms(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    *,
    times: Float[Array, "times"],
    variance_fraction: PerEntry | None = None,
    decoder: Decoder = gaussian,
    decoder_std: PerEntry | None = None,
) -> Elbo:
    """Estimate the bound in its consistency form, two noisy draws per latent.

    Args:
        key: randomness of the noise.
        denoise_fn: the model.
        process: the forward process.
        x0: data.
        times: times of the latents, strictly decreasing, the last above 0.
        variance_fraction: as in :func:`jaxdiff.losses.elbo_terms`.
        decoder: as there.
        decoder_std: as there.

    Returns:
        ``Elbo(prior, reconstruction, denoising)``: its sum has the same mean as that of
        ``elbo_terms``, divided differently between prior and denoising.

    Raises:
        InputError: if ``times`` is not such a grid.

    Example:
        >>> from jaxdiff import oracles, processes, schedules
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> x0, times = jnp.zeros((4, 2)), schedules.uniform_times(9, t_min=0.1)
        >>> terms = jax.jit(lambda key, x0: consistency_terms(key, exact, process, x0, times=times))
        >>> terms(jax.random.key(0), x0).denoising.shape
        (4,)

    Reference: Luo 2022 (Understanding diffusion models), eq. 44, from which eq. 45 does not follow.
    """
    times = jnp.asarray(times)
    check_latents(times)
    prior_key, chain_key, last_key, decoder_key = jax.random.split(key, 4)

    def term(bridge: tuple[Array, Array], spread: Array, x_t: Array, s: Array, t: Array) -> Array:
        """KL of the bridge ``(mean, std)`` from the model's step, minus ½D log ``spread``."""
        estimate = denoise_fn(x_t, t)
        mean, _ = posterior(process, x_t, estimate.x0, s=s, t=t)
        fraction = fraction_of(estimate, variance_fraction)
        log_var = expand_to(2 * jnp.log(bridge[1]), x0)
        model = log_variance(process, fraction, x0, s=s, t=t)
        return gaussian_kl(bridge[0], log_var, mean, model) - 0.5 * x0[0].size * jnp.log(spread)

    def between(total: Array, inputs: tuple[Key, Array, Array, Array]) -> tuple[Array, None]:
        key, t, s, b = inputs
        early_key, late_key = jax.random.split(key)
        x_b, _ = perturb(early_key, process, x0, b)
        (scale_sb, std_sb), (scale_ts, std_ts), (scale_tb, std_tb) = (
            transition(process, s=early, t=late) for early, late in ((b, s), (s, t), (b, t))
        )
        x_t = scale_tb * x_b + std_tb * jax.random.normal(late_key, x0.shape, x0.dtype)
        late, early = (std_ts / std_tb) ** 2, (std_sb / std_tb) ** 2
        bridge = scale_sb * late * x_b + scale_ts * early * x_t, std_sb * std_ts / std_tb
        return total + term(bridge, 1 / late, x_t, s, t), None

    keys = jax.random.split(chain_key, len(times) - 2)
    nothing = jnp.zeros(x0.shape[0], x0.dtype)
    total, _ = jax.lax.scan(between, nothing, (keys, times[:-2], times[1:-1], times[2:]))

    # After the last latent comes x_0, for which the bridge is the posterior and σ_tb is σ_t.
    t, s = times[-2], times[-1]
    x_t, _ = perturb(last_key, process, x0, t)
    std_ts = transition(process, s=s, t=t).std
    spread = (process.sigma(t) / std_ts) ** 2
    total += term(posterior(process, x_t, x0, s=s, t=t), spread, x_t, s, t)

    x_b, _ = perturb(prior_key, process, x0, times[1])
    scale, std = transition(process, s=times[1], t=times[0])
    return Elbo(
        prior=gaussian_kl(scale * x_b, 2 * jnp.log(std), 0.0, 2 * jnp.log(process.sigma(1.0))),
        reconstruction=reconstruction(
            decoder_key, denoise_fn, process, x0, times[-1], decoder=decoder, std=decoder_std
        ),
        denoising=total,
    )
