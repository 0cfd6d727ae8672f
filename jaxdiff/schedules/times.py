"""Time grids: n steps are n + 1 strictly decreasing times.

A solver steps over the pairs (t_0, t_1), …, (t_{n−1}, t_n) from noise (t = 1) to data (t = 0).
Grids that space a function of the noise level find their times by bisection, so that they work for
every process whose log SNR decreases with t, in closed form or not.
"""

import math
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.checks import check_known, is_count, known
from jaxdiff.schedules.inverse import time_at_log_snr
from jaxdiff.typing import Array, ArrayLike, Float, InputError, Real


class _Process(Protocol):
    """The part of a process that a grid uses."""

    @property
    def num_steps(self) -> int | None: ...

    @property
    def ends_without_signal(self) -> bool: ...

    @property
    def starts_without_noise(self) -> bool: ...

    def log_snr(self, t: Real[ArrayLike, "*shape"]) -> Float[Array, "*shape"]: ...


def uniform_times(
    num_steps: int, *, t_max: float = 1.0, t_min: float = 0.0
) -> Float[Array, "{num_steps}+1"]:
    """Evenly spaced times, t_k = t_max + (t_min − t_max) k/n.

    Args:
        num_steps: number n of steps.
        t_max: first time.
        t_min: last time, reached exactly.

    Returns:
        Strictly decreasing from t_max to t_min.

    Raises:
        InputError: if n < 1 or not 0 ≤ t_min < t_max ≤ 1.

    Example:
        >>> uniform_times(4)
        Array([1.  , 0.75, 0.5 , 0.25, 0.  ], dtype=float32)
    """
    _check_times(num_steps, t_max=t_max, t_min=t_min)
    return jnp.linspace(t_max, t_min, num_steps + 1)


def quadratic_times(
    num_steps: int, *, t_max: float = 1.0, t_min: float = 0.0
) -> Float[Array, "{num_steps}+1"]:
    """Evenly spaced √t, with more steps near the data.

    Args:
        num_steps: number n of steps.
        t_max: first time.
        t_min: last time, reached exactly.

    Returns:
        Strictly decreasing from t_max to t_min.

    Raises:
        InputError: if n < 1 or not 0 ≤ t_min < t_max ≤ 1.

    Example:
        >>> quadratic_times(4)
        Array([1.    , 0.5625, 0.25  , 0.0625, 0.    ], dtype=float32)

    Reference: Song, Meng & Ermon 2021 (DDIM), appendix D.2.
    """
    _check_times(num_steps, t_max=t_max, t_min=t_min)
    times = jnp.linspace(math.sqrt(t_max), math.sqrt(t_min), num_steps + 1) ** 2
    return _with_ends(times, t_max, t_min)


def log_snr_times(
    process: _Process, num_steps: int, *, t_max: float = 1.0, t_min: float = 1e-3
) -> Float[Array, "{num_steps}+1"]:
    """Times at which log SNR = 2 log(α/σ) is evenly spaced.

    Args:
        process: the forward process.
        num_steps: number n of steps.
        t_max: first time.
        t_min: last time, reached exactly; positive, unless log SNR is finite at the data, as that
            of ``LearnedVP`` is.

    Returns:
        Strictly decreasing from t_max to t_min.

    Raises:
        InputError: if n < 1, not 0 ≤ t_min < t_max ≤ 1, or log SNR diverges at t_min.

    Example:
        >>> from jaxdiff.processes import VE
        >>> log_snr_times(VE(), 4, t_min=0.2).round(3)  # log SNR of VE is linear in t
        Array([1. , 0.8, 0.6, 0.4, 0.2], dtype=float32)

    Reference: Lu et al. 2022 (DPM-Solver), section 3.4.
    """
    _check_times(num_steps, t_max=t_max, t_min=t_min)
    if t_min == 0 and process.starts_without_noise:
        raise InputError("log_snr_times requires t_min > 0 for this process, got t_min=0")
    signal = _start_of_signal(process, t_max)
    if t_min < signal < t_max and num_steps > 1:
        rest = log_snr_times(process, num_steps - 1, t_max=signal, t_min=t_min)
        return jnp.concatenate([jnp.asarray([t_max]), rest])
    ends = process.log_snr(jnp.asarray([t_max, t_min]))
    times = time_at_log_snr(process, jnp.linspace(ends[0], ends[1], num_steps + 1))
    return _with_ends(times, t_max, t_min)


def karras_times(
    process: _Process,
    num_steps: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
    t_max: float = 1.0,
    t_min: float = 1e-3,
) -> Float[Array, "{num_steps}+1"]:
    """Times at which (σ/α)^{1/ρ} is evenly spaced between σ_max and σ_min.

    Args:
        process: the forward process.
        num_steps: number n of steps.
        sigma_min: noise-to-signal ratio σ/α at the last time; by default that of t_min.
        sigma_max: noise-to-signal ratio at the first time; by default that of t_max.
        rho: 1 spaces σ/α itself, larger values put more steps near the data.
        t_max: first time, if sigma_max is not given.
        t_min: last time, if sigma_min is not given; positive, as in :func:`log_snr_times`.

    Returns:
        Strictly decreasing. Ratios are clipped to the range of the process.

    Raises:
        InputError: if n < 1, not 0 ≤ t_min < t_max ≤ 1, rho is not positive, or not
            0 < sigma_min < sigma_max.

    Example:
        >>> from jaxdiff.processes import VE
        >>> process = VE(sigma_min=1.0, sigma_max=81.0)
        >>> times = karras_times(process, 2, rho=2.0, t_min=1e-6)  # √σ: 9, 5, 1
        >>> process.sigma(times).round(2)
        Array([81., 25.,  1.], dtype=float32)

    Reference: Karras et al. 2022, eq. 5.
    """
    _check_times(num_steps, t_max=t_max, t_min=t_min)
    if sigma_min is None and t_min == 0 and process.starts_without_noise:
        raise InputError(
            "karras_times requires t_min > 0 or a sigma_min for this process, got t_min=0"
        )
    signal = _start_of_signal(process, t_max)
    if sigma_max is None and t_min < signal < t_max and num_steps > 1:
        rest = karras_times(
            process, num_steps - 1, sigma_min=sigma_min, rho=rho, t_max=signal, t_min=t_min
        )
        return jnp.concatenate([jnp.asarray([t_max]), rest])
    for name, sigma in (("sigma_min", sigma_min), ("sigma_max", sigma_max), ("rho", rho)):
        if sigma is not None and not sigma > 0:
            raise InputError(f"karras_times requires {name} > 0, got {sigma}")
    if not rho < math.inf:  # an infinite sigma_max is clipped to the range of the process
        raise InputError(f"karras_times requires a finite rho, got {rho}")
    first, last = (jnp.exp(-0.5 * process.log_snr(t)) for t in (0.0, 1.0))
    low, high = (
        jnp.exp(-0.5 * process.log_snr(t)) if sigma is None else jnp.clip(sigma, first, last)
        for sigma, t in ((sigma_min, t_min), (sigma_max, t_max))
    )
    requirement = "sigma_max must exceed sigma_min, both clipped to the range of the process"
    got = "sigma_max={}, sigma_min={}"
    check_known(np.greater, high, low, requirement=requirement, got=got)
    ratios = jnp.linspace(high ** (1 / rho), low ** (1 / rho), num_steps + 1) ** rho
    times = time_at_log_snr(process, -2 * jnp.log(ratios))
    times = times if sigma_max is not None else times.at[0].set(t_max)
    return times if sigma_min is not None else times.at[-1].set(t_min)


def logistic_times(
    process: _Process,
    num_steps: int,
    *,
    rho: float = 2.0,
    t_max: float = 1.0,
    t_min: float = 0.0,
) -> Float[Array, "{num_steps}+1"]:
    """Times at which r^{1/ρ}/(1 + r^{1/ρ}) is evenly spaced, r = σ/α: the default for sampling.

    This is the logistic function of log r/ρ: even in r^{1/ρ} near the data, as Karras's grid, and
    in r^{−1/ρ} near the noise, with most steps where noise and data are about equal, which is where
    a sample commits to a mode. As ρ → ∞ log SNR is evenly spaced. Both ends are finite, so the grid
    may end at the data itself.

    Args:
        process: the forward process.
        num_steps: number n of steps.
        rho: larger values put more steps at either end. Over mixtures and networks under VP,
            sub-VP and VE, ρ = 2 had the smallest errors at 10 to 35 evaluations.
        t_max: first time.
        t_min: last time, reached exactly.

    Returns:
        Strictly decreasing from t_max to t_min.

    Raises:
        InputError: if n < 1, not 0 ≤ t_min < t_max ≤ 1, or rho is not positive, or so large that
            times next to the data coincide.

    Example:
        >>> from jaxdiff.processes import VE
        >>> process = VE(sigma_min=1 / 64, sigma_max=64.0)  # √r: 8, 1, 1/8
        >>> [round(float(sigma), 3) for sigma in process.sigma(logistic_times(process, 2))]
        [64.0, 1.0, 0.016]

    Reference: the ρ is that of Karras et al. 2022, eq. 5; the rest is ours.
    """
    _check_times(num_steps, t_max=t_max, t_min=t_min)
    if not 0 < rho < math.inf:
        raise InputError(f"logistic_times requires a finite rho > 0, got {rho}")
    ends = jax.nn.sigmoid(-process.log_snr(jnp.asarray([t_max, t_min])) / (2 * rho))
    inner = jnp.linspace(ends[0], ends[1], num_steps + 1)[1:-1]  # the logit is infinite at σ = 0
    between = time_at_log_snr(process, -2 * rho * jax.scipy.special.logit(inner))
    times = jnp.concatenate([jnp.asarray([t_max]), between, jnp.asarray([t_min])])
    numbers = known(times)
    if numbers is not None and not np.all(np.diff(numbers) < 0):
        raise InputError(
            f"logistic_times cannot resolve {num_steps} steps down to t_min={t_min} with "
            f"rho={rho}; increase t_min or decrease rho"
        )
    return times


def _start_of_signal(process: _Process, t_max: float) -> float:
    """The noisiest time with a signal: t_max, except on a chain whose last β is known to be 1.

    Log SNR cannot be evenly spaced down to −∞: there the first step is that of the chain.
    """
    if process.ends_without_signal and process.num_steps is not None:
        return min(t_max, 1 - 1 / process.num_steps)
    return t_max


def _with_ends(times: Array, t_max: float, t_min: float) -> Array:
    """Set the two ends exactly, free of rounding."""
    return times.at[0].set(t_max).at[-1].set(t_min)


def _check_times(num_steps: int, *, t_max: float, t_min: float) -> None:
    if not is_count(num_steps) or not 0 <= t_min < t_max <= 1:
        raise InputError(
            "a time grid requires num_steps >= 1 and 0 <= t_min < t_max <= 1, got "
            f"num_steps={num_steps}, t_min={t_min}, t_max={t_max}"
        )
