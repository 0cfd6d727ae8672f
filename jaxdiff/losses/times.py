"""Samplers of training times, with the weights that keep an average over [t_min, 1] unbiased.

A sampler returns ``TimeSample(t, weight)`` with E[weight · h(t)] = E_{t ~ U(t_min, t_max)} h(t) for
every h. On a discrete chain, ``num_steps=T`` snaps each draw up to the grid i/T, i = 1 … T, and the
average is that over the grid (exactly so where t_min and t_max lie on it).
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.checks import known_scalar
from jaxdiff.processes import Process
from jaxdiff.schedules import log_snr_times
from jaxdiff.typing import Array, Float, InputError, Key, Scalar, WeightFn


class TimeSample(NamedTuple):
    """Times and their importance weights."""

    t: Float[Array, "batch"]
    weight: Float[Array, "batch"]


def uniform(
    key: Key, n: int, *, t_min: float = 0.0, t_max: float = 1.0, num_steps: int | None = None
) -> TimeSample:
    """Draw n independent times from U(t_min, t_max].

    Args:
        key: randomness.
        n: number of times.
        t_min: lower end.
        t_max: upper end.
        num_steps: length T of a discrete chain, to draw from i/T instead.

    Returns:
        ``TimeSample(t, weight)`` with weight 1.

    Example:
        >>> t, weight = uniform(jax.random.key(0), 1000, num_steps=2)
        >>> sorted(set(t.tolist()))
        [0.5, 1.0]
    """
    return _between(1 - jax.random.uniform(key, (n,)), t_min, t_max, num_steps)


def stratified(
    key: Key, n: int, *, t_min: float = 0.0, t_max: float = 1.0, num_steps: int | None = None
) -> TimeSample:
    """Draw n evenly spaced times with one common random offset, wrapped around the range.

    Each is uniform, for every example, and together they cover the range: the variance of a batch's
    loss over t falls from O(1/n) to O(1/n²) for smooth losses.

    Args:
        key: randomness.
        n: number of times.
        t_min: lower end.
        t_max: upper end.
        num_steps: length T of a discrete chain, to draw from i/T instead.

    Returns:
        ``TimeSample(t, weight)`` with weight 1.

    Example:
        >>> t, _ = stratified(jax.random.key(0), 4)
        >>> sorted(jnp.ceil(4 * t).tolist())  # one in each quarter
        [1.0, 2.0, 3.0, 4.0]

    Reference: Kingma et al. 2021, appendix I.1.
    """
    return _between(stratified_units(key, n), t_min, t_max, num_steps)


def importance(
    key: Key,
    n: int,
    process: Process,
    weight_fn: WeightFn,
    *,
    t_min: float = 1e-3,
    t_max: float = 1.0,
    num_steps: int | None = None,
    uniform_share: float = 1e-3,
    num_cells: int = 1024,
) -> TimeSample:
    """Draw times with a density proportional to the weight λ(t) of the loss.

    p(t) ∝ λ(t), weight = 1/((t_max − t_min) p(t)): λ(t)·weight is nearly constant

    For λ = ``weights.likelihood`` on ε this is uniform in log SNR, since g²/σ² = −(log SNR)'. The
    range is divided into cells even in log SNR, on each of which p is constant; the weight is that
    of this piecewise density, so that the discretisation does not bias the average.

    Args:
        key: randomness.
        n: number of times; stratified, as in :func:`stratified`.
        process: the forward process.
        weight_fn: λ, ``(process, t) -> weights``, positive.
        t_min: lower end; positive, unless log SNR is finite at the data.
        t_max: upper end.
        num_steps: length T of a discrete chain, to draw from i/T instead; t_min may then be 0.
        uniform_share: fraction of uniform draws, whose inverse bounds the weights.
        num_cells: number of cells, for continuous times.

    Returns:
        ``TimeSample(t, weight)``.

    Raises:
        InputError: if not 0 ≤ t_min < t_max ≤ 1, or ``uniform_share`` is not in [0, 1].

    Example:
        >>> from jaxdiff.losses import weights
        >>> from jaxdiff.processes import VE
        >>> t, weight = importance(jax.random.key(0), 4, VE(), weights.likelihood)
        >>> weight.round(2).tolist()  # log SNR of VE is linear in t
        [1.0, 1.0, 1.0, 1.0]

    Reference: Song et al. 2021b, section 5.1; Kingma et al. 2021, appendix I.
    """
    if not 0 <= uniform_share <= 1:
        raise InputError(f"uniform_share must be in [0, 1], got {uniform_share}")
    if not 0 <= t_min < t_max <= 1:
        raise InputError(
            "t_min and t_max must satisfy 0 <= t_min < t_max <= 1, got "
            f"t_min={t_min}, t_max={t_max}"
        )
    if num_steps is None:
        edges = log_snr_times(process, num_cells, t_max=t_max, t_min=t_min)[::-1]
        at = 0.5 * (edges[:-1] + edges[1:])
    else:
        first, last = math.floor(t_min * num_steps), math.ceil(t_max * num_steps)
        edges = jnp.clip(jnp.arange(first, last + 1) / num_steps, t_min, t_max)
        at = jnp.arange(first + 1, last + 1) / num_steps
    width = jnp.diff(edges) / (edges[-1] - edges[0])
    mass = weight_fn(process, at) * width
    p = (1 - uniform_share) * mass / jnp.sum(mass) + uniform_share * width

    pick_key, place_key = jax.random.split(key)
    cell = jnp.searchsorted(jnp.cumsum(p) / jnp.sum(p), stratified_units(pick_key, n))
    cell = jnp.minimum(cell, len(p) - 1)
    if num_steps is None:
        place = 1 - jax.random.uniform(place_key, (n,))
        t = edges[cell] + place * (edges[cell + 1] - edges[cell])
    else:
        t = at[cell]
    return TimeSample(t, width[cell] / p[cell])


def log_normal(
    key: Key,
    n: int,
    process: Process,
    *,
    mean: Scalar = -1.2,
    std: Scalar = 1.2,
    t_min: float = 1e-3,
    t_max: float = 1.0,
    num_steps: int | None = None,
    uniform_share: float = 1e-3,
) -> TimeSample:
    """Draw times at which the noise-to-signal ratio σ/α is log-normal, within the range of times.

    log σ(t)/α(t) ~ N(mean, std²)

    EDM's own objective is the average over this distribution itself: drop the weight to obtain it.

    Args:
        key: randomness.
        n: number of times; stratified.
        process: the forward process.
        mean: mean of log σ/α; P_mean of EDM, for data of standard deviation 0.5.
        std: standard deviation of log σ/α; P_std of EDM.
        t_min: lower end; positive, unless log SNR is finite at the data.
        t_max: upper end.
        num_steps: length T of a discrete chain, to draw from i/T instead.
        uniform_share: as in :func:`importance`.

    Returns:
        ``TimeSample(t, weight)``, weighted back to the average over all times.

    Raises:
        InputError: as :func:`importance`; if mean is not finite, or std not positive and finite.

    Example:
        >>> from jaxdiff.processes import VE
        >>> process = VE(sigma_min=0.002, sigma_max=80.0)
        >>> t, _ = log_normal(jax.random.key(0), 10_001, process)
        >>> abs(float(jnp.median(jnp.log(process.sigma(t)))) + 1.2) < 0.01
        True

    Reference: Karras et al. 2022, table 1.
    """
    known_scalar("mean must be finite", mean, -math.inf)
    known_scalar("std must be positive and finite", std, 0, strict=True)

    def density(process: Process, t: Array) -> Array:
        log_snr, slope = jax.jvp(process.log_snr, (t,), (jnp.ones_like(t),))
        return jnp.exp(-0.5 * jnp.square((-0.5 * log_snr - mean) / std)) * -slope

    return importance(
        key,
        n,
        process,
        density,
        t_min=t_min,
        t_max=t_max,
        num_steps=num_steps,
        uniform_share=uniform_share,
    )


def stratified_units(key: Key, n: int) -> Float[Array, "{n}"]:
    """Evenly spaced numbers on the circle (0, 1] with one random offset, each uniform."""
    return 1 - (jnp.arange(n) / n + jax.random.uniform(key)) % 1


def _between(unit: Array, t_min: float, t_max: float, num_steps: int | None) -> TimeSample:
    """Map (0, 1] onto (t_min, t_max], rounded up to the nodes of a chain if there is one."""
    t = t_min + unit * (t_max - t_min)
    if num_steps is not None:
        t = jnp.clip(jnp.ceil(t * num_steps), 1, num_steps) / num_steps
    return TimeSample(t, jnp.ones_like(t))
