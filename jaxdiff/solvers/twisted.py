"""Twisted sequential Monte Carlo: weighted samples of p(x_0 | y), exact as their number grows.

The batch is a population of particles. Ancestral sampling proposes x_s ~ p(x_s | x_t) = N(μ, v); a
twisting function p̃(y | x_t), an approximation of p(y | x_t) that is exact at the data, shifts the
proposal along its gradient g, and the weights correct for both,

    x_s = μ + v g + √v z,    g = ∇ log p̃(y | x_t),
    w ← w · p̃(y | x_s)/p̃(y | x_t) · p(x_s | x_t)/p̃(x_s | x_t)
      = w · p̃(y | x_s)/p̃(y | x_t) · exp(−√v z·g − ½ v ‖g‖²).

At the last time the weighted particles follow the posterior of the data as ancestral sampling on
the grid generates them, whatever the twisting function is: it only decides how even the weights
are. Particles are resampled where the effective sample size (Σw)²/Σw² falls below a fraction of
their number, and the mean weights until then estimate p(y), without bias.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.arrays import expand_to, sum_events
from jaxdiff.checks import known_scalar
from jaxdiff.guidance.base import checked_model
from jaxdiff.guidance.inverse.twist import TwistFn
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, posterior
from jaxdiff.solvers.base import Solver
from jaxdiff.typing import Array, Float, InputError, Key, Scalar


class Particles(NamedTuple):
    """The population at one time."""

    x: Float[Array, "batch *event"]
    log_weights: Float[Array, "batch"]  # since the last resampling, not normalised
    log_evidence: Float[Array, ""]  # of the weights until then: log p̂(y) = it + log mean w
    log_twist: Float[Array, "batch"]  # log p̃(y | x)
    score: Float[Array, "batch *event"]  # its gradient
    x0: Float[Array, "batch *event"]  # the model's estimate


def twisted(
    denoise_fn: DenoiseFn,
    process: Process,
    *,
    log_twist_fn: TwistFn,
    threshold: Scalar = 0.5,
) -> Solver:
    """Twisted diffusion sampler (TDS): a solver whose state carries weights.

    The weights are in the state: ``save_fn=lambda state: state.log_weights`` of
    :func:`jaxdiff.trajectory` returns them, the final ones last. Several populations at once are a
    ``jax.vmap`` of that.

    Args:
        denoise_fn: the model.
        process: the forward process.
        log_twist_fn: ``(x_t, t, estimate) -> log p̃(y | x_t) [batch]``; at the last time it must be
            the likelihood p(y | x_0). Of a noisy measurement it is
            :func:`jaxdiff.guidance.inverse.gaussian_twist`.
        threshold: resample where the effective sample size is below this fraction of the
            particles, in [0, 1]; 0 never resamples, 1 always does.

    Returns:
        A stochastic solver with the state :class:`Particles`, of one forward and one backward pass
        of the network per step.

    Raises:
        InputError: if threshold is not in [0, 1], or log_twist_fn does not return one number per
            particle.

    Example:
        >>> import jaxdiff
        >>> from jaxdiff import oracles, processes, schedules
        >>> from jaxdiff.guidance import inverse
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(1), jnp.eye(1))
        >>> twist = inverse.gaussian_twist(
        ...     process, operator=lambda x: x, y=jnp.ones(1), noise_std=1.0)
        >>> x = processes.sample_prior(jax.random.key(0), process, (500, 1))
        >>> x, saved = jaxdiff.trajectory(
        ...     jax.random.key(1), twisted(exact, process, log_twist_fn=twist), x,
        ...     schedules.uniform_times(50), save_fn=lambda state: state.log_weights)
        >>> weights = jax.nn.softmax(saved[-1])
        >>> 0.3 < float(weights @ x[:, 0]) < 0.7  # N(½, ½)
        True
        >>> bool(effective_sample_size(saved[-1]) > 250)
        True

    Reference: Wu et al. 2023, algorithm 1.
    """
    known_scalar("threshold must be in [0, 1]", threshold, 0, 1)
    model = checked_model("denoise_fn", denoise_fn)

    def twist(x: Array, t: Array) -> tuple[Array, Array, Array]:
        """Log p̃(y | x), its gradient, and the estimate of the data."""

        def total(x: Array) -> tuple[Array, tuple[Array, Array]]:
            estimate = model(x, t)
            log_probs = log_twist_fn(x, t, estimate)
            if log_probs.shape != x.shape[:1]:
                raise InputError(
                    f"log_twist_fn must return one number per particle, {x.shape[:1]}, got shape "
                    f"{log_probs.shape}"
                )
            return jnp.sum(log_probs), (log_probs, estimate.x0)

        score, (log_probs, x0) = jax.grad(total, has_aux=True)(x)
        return log_probs, score, x0

    def init(x: Array, t: Array) -> Particles:
        log_twist, score, x0 = twist(x, t)
        return Particles(x, log_twist, jnp.zeros((), x.dtype), log_twist, score, x0)

    def step(key: Key, particles: Particles, t: Array, s: Array) -> Particles:
        resample_key, noise_key = jax.random.split(key)
        enough = threshold * particles.x.shape[0]
        x, log_weights, log_evidence, before, score, x0 = jax.lax.cond(
            effective_sample_size(particles.log_weights) < enough,
            lambda: _resampled(resample_key, particles),
            lambda: particles,
        )
        mean, std = posterior(process, x, x0, s=s, t=t)
        z = jax.random.normal(noise_key, x.shape, x.dtype)
        push = expand_to(std, x) * score
        new = (mean + expand_to(std, x) * (push + z)).astype(x.dtype)
        log_twist, new_score, new_x0 = twist(new, s)
        log_ratio = log_twist - before - sum_events(push * (z + 0.5 * push))
        return Particles(new, log_weights + log_ratio, log_evidence, log_twist, new_score, new_x0)

    return Solver(init, step, draws_noise=True)


def effective_sample_size(log_weights: Float[Array, "particles"]) -> Float[Array, ""]:
    """How many equally weighted particles are worth as much as these: (Σw)²/Σw².

    Args:
        log_weights: log w, up to a constant.

    Example:
        >>> effective_sample_size(jnp.log(jnp.array([1.0, 1.0, 0.0, 0.0])))
        Array(2., dtype=float32)

    Reference: Kong, Liu & Wong 1994.
    """
    return 1 / jnp.sum(jax.nn.softmax(log_weights) ** 2)


def _resampled(key: Key, particles: Particles) -> Particles:
    """Systematic resampling: each particle w_k·K times, rounded up or down; equal weights."""
    log_weights, count = particles.log_weights, particles.x.shape[0]
    edges = jnp.cumsum(jax.nn.softmax(log_weights))
    places = (jnp.arange(count) + jax.random.uniform(key, (), edges.dtype)) / count
    ancestors = jnp.minimum(jnp.searchsorted(edges, places), count - 1)
    mean = jax.nn.logsumexp(log_weights) - math.log(count)
    return Particles(
        x=particles.x[ancestors],
        log_weights=jnp.zeros_like(log_weights),
        log_evidence=particles.log_evidence + mean,
        log_twist=particles.log_twist[ancestors],
        score=particles.score[ancestors],
        x0=particles.x0[ancestors],
    )
