"""L5: the exact log-likelihood of a model, by the change of variables along its ODE.

For y = x/h, h = √(α² + σ²), and the angle φ of :mod:`jaxdiff.flow`, dy/dφ = v̂, so that
d log p(y(φ))/dφ = −∇·v̂ along a solution (Chen et al. 2018, theorem 1). From t_min, where x is the
example, to t = 1, where x has the prior distribution π, with D numbers each,

    log p(x) = log π(x_1) + D log h(1)/h(t_min) + ∫ ∇·v̂ dφ.

This is eq. 39 of Song et al. 2021 in other variables. There ∇·(f x) = D f integrates to
D log α(1), for VP −5 nats per dimension, against a divergence as large; here h is 1 for VP, and for
data N(0, I) the integral vanishes for every process, so nothing large cancels.

The result is the density of the model's own distribution at t_min, the prior mapped back by its
ODE: not a bound, and not the density of the data, which the model approximates.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import divergence, flow
from jaxdiff.arrays import sum_events
from jaxdiff.checks import check_count, check_known, check_one_of
from jaxdiff.divergence import Field, Probe, draw_probes
from jaxdiff.flow import OdeOptions
from jaxdiff.losses import bits_per_dim
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process, prior_log_prob
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Key, Real, Scalar


class LogLikelihood(NamedTuple):
    """Log density in nats, per probe where requested, and the latent code x_1."""

    log_prob: Float[Array, "*probes batch"]
    latent: Float[Array, "batch *event"]


def log_likelihood(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    *,
    num_probes: int | None = None,
    probe: Probe = "rademacher",
    t_min: Scalar = 1e-5,
    times: Float[Array, "times"] | None = None,
    **options: Unpack[OdeOptions],
) -> LogLikelihood:
    """Log density of examples under a model, by its probability-flow ODE.

    log p(x) = log π(x_1) + D log h(1)/h(t_min) + ∫ ∇·v̂ dφ

    Args:
        key: randomness of the probes; the exact divergence uses none.
        denoise_fn: the model.
        process: the forward process.
        x0: examples, D numbers each, used unchanged as x at t_min.
        num_probes: random directions per example that estimate the divergence, drawn once for the
            whole solution; None for the exact divergence, by D forward derivatives.
        probe: their distribution, as in :func:`jaxdiff.divergence.draw_probes`.
        t_min: start time; below the smallest time it was trained on, a model is undefined.
        times: strictly increasing to 1: one step on each interval, from times[0] instead of t_min,
            regardless of the tolerances.
        **options: rtol, atol, method and max_steps, as in :func:`jaxdiff.flow.integrate`, which
            apply to y and to the integral in nats per dimension.

    Returns:
        ``LogLikelihood(log_prob, latent)``, in nats per example; with probes an unbiased
        estimate, the mean of :func:`log_likelihood_by_probe`.

    Raises:
        InputError: if ``method`` or ``probe`` does not exist, ``num_probes`` is below 1, t_min is
            outside [0, 1), or ``times`` do not increase to 1; if the solver does not reach the end,
            as :func:`jaxdiff.flow.integrate`.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process = processes.VP()
        >>> exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
        >>> run = jax.jit(lambda key, x0: log_likelihood(key, exact, process, x0))
        >>> log_prob, latent = run(jax.random.key(0), jnp.zeros((1, 2)))
        >>> round(float(log_prob[0]), 3)  # −log 2π
        -1.838

    Reference: Song et al. 2021, eq. 39; Chen et al. 2018.
    """
    log_probs, latent = log_likelihood_by_probe(
        key,
        denoise_fn,
        process,
        x0,
        num_probes=num_probes,
        probe=probe,
        t_min=t_min,
        times=times,
        **options,
    )
    return LogLikelihood(jnp.mean(log_probs, axis=0), latent)


def log_likelihood_by_probe(
    key: Key,
    denoise_fn: DenoiseFn,
    process: Process,
    x0: Float[Array, "batch *event"],
    *,
    num_probes: int | None,
    probe: Probe = "rademacher",
    t_min: Scalar = 1e-5,
    times: Float[Array, "times"] | None = None,
    **options: Unpack[OdeOptions],
) -> LogLikelihood:
    """Estimate the log density from each probe separately, along one shared solution.

    Args:
        key: as in :func:`log_likelihood`, like all other arguments.
        denoise_fn: the model.
        process: the forward process.
        x0: examples.
        num_probes: random directions per example; None for the exact divergence, one estimate.
        probe: their distribution.
        t_min: start time.
        times: a fixed grid instead.
        **options: of the solver.

    Returns:
        ``LogLikelihood(log_prob, latent)``, a row of ``log_prob`` for each probe: independent,
        unbiased estimates, so their mean has the standard error
        ``log_prob.std(0, ddof=1) / √num_probes``.

    Raises:
        InputError: as :func:`log_likelihood`.

    Example:
        >>> from jaxdiff import oracles, processes
        >>> process, cov = processes.VP(), jnp.array([[1.0, 0.5], [0.5, 1.0]])
        >>> exact = oracles.gaussian(process, jnp.zeros(2), cov)
        >>> run = jax.jit(
        ...     lambda key, x0: log_likelihood_by_probe(key, exact, process, x0, num_probes=8))
        >>> each = run(jax.random.key(0), jnp.zeros((1, 2))).log_prob
        >>> each.shape, float(jnp.std(each, axis=0, ddof=1)[0]) > 0.1
        ((8, 1), True)

    Reference: Song et al. 2021, eq. 40; Grathwohl et al. 2019, eq. 8.
    """
    check_one_of(probe=(probe, Probe))
    dim = math.prod(x0.shape[1:])
    grid = _grid(t_min, times)
    y = flow.rescale(process, x0, grid[0])
    trace = _exact
    if num_probes is not None:
        probes = draw_probes(key, y, num_probes=num_probes, probe=probe)
        trace = partial(_along, probes)
    field = flow.velocity(denoise_fn, process)

    def with_traces(state: tuple[Array, Array], angle: Array) -> tuple[Array, Array]:
        value, traces = trace(lambda y: field(y, angle), state[0])
        return value, traces / dim  # in nats per dimension, of the size of y

    y, integrals = flow.integrate(
        with_traces,
        (y, jnp.zeros((x0.shape[0], num_probes or 1), y.dtype)),
        flow.angle(process, grid).astype(y.dtype),
        adaptive=times is None,
        **options,
    )
    latent = flow.unit_scale(process, 1.0) * y
    widths = jnp.log(flow.unit_scale(process, jnp.stack([grid[0], grid[-1]])))
    change = dim * (integrals.T + widths[1] - widths[0])
    return LogLikelihood(prior_log_prob(process, latent)[None] + change, latent.astype(x0.dtype))


def dequantized_log_likelihood(
    key: Key,
    log_prob_fn: Callable[[Key, Float[Array, "batch *event"]], Float[Array, "batch"]],
    levels: Real[Array, "batch *event"],
    *,
    to_data: Callable[[Float[Array, "batch *event"]], Float[Array, "batch *event"]],
    num_samples: int = 1,
) -> Float[Array, "batch"]:
    """Lower bound on the log probability of levels, by a density and uniform dequantisation.

    log P(levels) ≥ E log 1/k Σ_i p(levels + u_i),    u_i ~ U[0, 1)^D

    The probability of levels is the integral of the density of levels over a unit cube, so k = 1 is
    Jensen's inequality, and the bound rises with k to the probability itself.

    Args:
        key: randomness of the dequantisation and of ``log_prob_fn``.
        log_prob_fn: ``(key, x0) -> log density`` of data, in nats. One that
            estimates with probes gives a bound for k = 1 only: its noise would enter the sum.
        levels: integers, as a float or an integer array.
        to_data: f, elementwise, from levels to data; the density of levels is p(f(u)) Π |f'(u_i)|.
        num_samples: k, points of the cube, one solution each.

    Returns:
        In nats, a lower bound on log P(levels) in the mean over keys; its negative is the
        ``nats`` of :func:`jaxdiff.losses.bits_per_dim`, without its ``to_data``.

    Raises:
        InputError: if ``num_samples`` is below 1.

    Example:
        >>> flat = lambda key, x: jnp.full(x.shape[0], -2 * jnp.log(2.0))  # uniform on [-1, 1]²
        >>> log_prob = dequantized_log_likelihood(
        ...     jax.random.key(0), flat, jnp.array([[3, 200]]), to_data=lambda u: 2 * u / 256 - 1)
        >>> bits_per_dim(-log_prob, jnp.array([[3, 200]])).round(3)
        Array([8.], dtype=float32)

    Reference: Theis et al. 2016, section 3.1; Burda et al. 2016, eq. 8; Ho et al. 2019 (Flow++).
    """
    check_count("num_samples must be a positive integer", num_samples)
    dtype = jnp.promote_types(levels.dtype, jnp.float32)

    def once(key: Key) -> Array:
        cube_key, density_key = jax.random.split(key)
        values = levels + jax.random.uniform(cube_key, levels.shape, dtype)
        log_prob = log_prob_fn(density_key, to_data(values))
        bits = bits_per_dim(-log_prob, values, to_data=to_data)
        return -bits * (math.prod(levels.shape[1:]) * math.log(2))

    each = jax.lax.map(once, jax.random.split(key, num_samples))
    return jax.nn.logsumexp(each, axis=0) - math.log(num_samples)


def _grid(t_min: ArrayLike, times: Array | None) -> Array:
    """The two ends, or the given grid."""
    if times is None:
        check_known(
            lambda start: (start >= 0) & (start < 1), t_min, requirement="t_min must be in [0, 1)"
        )
        return jnp.stack([jnp.asarray(t_min, jnp.result_type(float)), jnp.ones(())])
    times = jnp.asarray(times)
    if times.ndim != 1 or times.shape[0] < 2:
        raise InputError(f"times must be a vector of at least two times, got shape {times.shape}")
    check_known(
        lambda grid: np.all(np.diff(grid) > 0) and grid[-1] == 1,
        times,
        requirement="times must increase strictly and end at 1, where the prior is",
    )
    return times


def _exact(field: Field, y: Array) -> tuple[Array, Array]:
    """The field and its divergence, ``[batch, 1]``."""
    value, trace = divergence.exact(field, y)
    return value, trace[:, None]


def _along(probes: Array, field: Field, y: Array) -> tuple[Array, Array]:
    """The field and its divergence along each probe, vᵀ∇f v: ``[batch, num_probes]``."""
    value, push = jax.linearize(field, y)
    slopes = jax.lax.map(jax.checkpoint(lambda v: sum_events(v * push(v))), probes)
    return value, slopes.T
