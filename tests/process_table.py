"""The processes that all test batteries run on: one row adds a process to all of them.

Each process comes with its α, σ, f and g² in plain numpy, float64, written from the papers; the
exact distributions below are derived from these alone, never from the library's own numbers.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import processes, schedules
from jaxdiff.processes import Process


class Scales(NamedTuple):
    """At given times: signal α, noise σ, and the SDE's dx = f x dt + g dw."""

    alpha: np.ndarray
    sigma: np.ndarray
    f: np.ndarray
    g2: np.ndarray


class ProcessRow(NamedTuple):
    process: Process
    scales: Callable[..., Scales]  # of times of any shape
    first_noise: float  # an early time, when there is still little noise
    alpha_0: float = 1.0  # at t = 0, where a VE still has its smallest noise
    sigma_0: float = 0.0
    steep: bool = False  # near t = 1, σ/α changes by percents between adjacent float32 times
    quadrature: float = 0.0  # error of integrals over t that assume a smooth σ
    betas: np.ndarray | None = None  # of a DDPM chain


def vp_scales(t, beta_min=0.1, beta_max=20.0):
    """Song et al. 2021, eq. 32 and 33."""
    t = np.asarray(t, np.float64)
    beta = beta_min + t * (beta_max - beta_min)
    integral = t * beta_min + 0.5 * t**2 * (beta_max - beta_min)
    return Scales(np.exp(-0.5 * integral), np.sqrt(-np.expm1(-integral)), -0.5 * beta, beta)


def subvp_scales(t):
    """Song et al. 2021, eq. 28 and 29: σ is VP's variance, and g² = β (1 − α⁴)."""
    alpha, std, f, beta = vp_scales(t)
    return Scales(alpha, std**2, f, beta * std**2 * (1 + alpha**2))


def ve_scales(t, sigma_min=0.01, sigma_max=50.0):
    """Song et al. 2021, eq. 30 and 31."""
    t = np.asarray(t, np.float64)
    sigma = sigma_min * (sigma_max / sigma_min) ** t
    g2 = 2 * sigma**2 * np.log(sigma_max / sigma_min)
    return Scales(np.ones_like(t), sigma, np.zeros_like(t), g2)


def cosine_scales(t, s=0.008, log_snr_min=-20.0):
    """Nichol & Dhariwal 2021, eq. 17: α = cos φ/cos φ₀, truncated where log SNR = log_snr_min."""
    first = 0.5 * np.pi * s / (1 + s)
    last = np.arccos(np.cos(first) / np.sqrt(1 + np.exp(-log_snr_min)))
    phi = first + np.asarray(t, np.float64) * (last - first)
    alpha = np.cos(phi) / np.cos(first)
    f = -np.tan(phi) * (last - first)
    return Scales(alpha, np.sqrt(np.maximum(1 - alpha**2, 0.0)), f, -2 * f)


def _between_nodes(values, t):
    """A function linear between its values at i/T, and its slope; t = i/T belongs to the left."""
    t, num_steps = np.asarray(t, np.float64), len(values) - 1
    i = np.clip(np.ceil(t * num_steps - 1e-3).astype(int) - 1, 0, num_steps - 1)
    rise = values[i + 1] - values[i]
    return values[i] + (t * num_steps - i) * rise, num_steps * rise


def chain_scales(betas):
    """Ho et al. 2020, eq. 4, with log ᾱ linear, so β constant, between the nodes."""
    log_alphas = np.append(0.0, 0.5 * np.cumsum(np.log1p(-betas)))

    def scales(t):
        log_alpha, f = _between_nodes(log_alphas, t)
        return Scales(np.exp(log_alpha), np.sqrt(-np.expm1(2 * log_alpha)), f, -2 * f)

    return scales


def ladder_scales(sigmas):
    """Song et al. 2021, eq. 20, with σ² linear, so g constant, between the nodes."""
    variances = np.append(0.0, sigmas) ** 2

    def scales(t):
        variance, g2 = _between_nodes(variances, t)
        one = np.ones_like(variance)
        return Scales(one, np.sqrt(np.maximum(variance, 0.0)), 0 * one, g2)

    return scales


LEARNED = dataclasses.replace(
    processes.LearnedVP.create(log_snr_max=9.0, log_snr_min=-10.0, num_steps=2),
    log_range=jnp.asarray(3.0),
    log_slope=jnp.asarray(0.5),
    log_heights=jnp.array([0.0, -0.75]),
    log_steepness=jnp.array([2.0, 2.5]),
    centres=jnp.array([0.25, 0.75]),
)


def learned_scales(t):
    """LEARNED: log SNR falls from 9 by e³, along a line and two logistic steps; f = ½σ² dlogSNR."""

    def risen(t):
        total, slope = np.exp(0.5) * t, np.exp(0.5) * np.ones_like(t)
        for height, steepness, centre in ((0.0, 2.0, 0.25), (-0.75, 2.5, 0.75)):
            step = 1 / (1 + np.exp(-np.exp(steepness) * (t - centre)))
            total = total + np.exp(height) * step
            slope = slope + np.exp(height + steepness) * step * (1 - step)
        return total, slope

    t = np.asarray(t, np.float64)
    (start, _), (whole, _), (total, slope) = risen(np.zeros(())), risen(np.ones(())), risen(t)
    log_snr = 9.0 - np.exp(3.0) * (total - start) / (whole - start)
    sigma2 = 1 / (1 + np.exp(log_snr))
    g2 = sigma2 * np.exp(3.0) * slope / (whole - start)
    return Scales(1 / np.sqrt(1 + np.exp(-log_snr)), np.sqrt(sigma2), -0.5 * g2, g2)


def _chain(schedule, betas, first_noise, **fields):
    process = processes.DiscreteVP.from_betas(schedule)
    return ProcessRow(process, chain_scales(betas), first_noise, betas=betas, **fields)


LINEAR = np.linspace(1e-4, 0.02, 1000)  # Ho et al. 2020, section 4
_BARS = np.cos((np.arange(101) / 100 + 0.008) / 1.008 * np.pi / 2) ** 2
COSINE = np.minimum(1 - _BARS[1:] / _BARS[:-1], 0.999)  # Nichol & Dhariwal 2021, eq. 17
SIGMAS = np.geomspace(0.01, 50.0, 232)  # Song & Ermon 2020, table 5: for CIFAR-10
NCSN_SIGMAS = schedules.geometric_sigmas(232, sigma_min=0.01, sigma_max=50.0)

PROCESSES = {
    "vp": ProcessRow(processes.VP(), vp_scales, 1e-3),
    "subvp": ProcessRow(processes.SubVP(), subvp_scales, 5e-3),
    "ve": ProcessRow(processes.VE(), ve_scales, 1e-3, sigma_0=0.01),
    "ve_348": ProcessRow(
        processes.VE(sigma_max=348.0), lambda t: ve_scales(t, sigma_max=348.0), 1e-3, sigma_0=0.01
    ),
    "cosine_vp": ProcessRow(processes.CosineVP(), cosine_scales, 1e-2, steep=True),
    "ddpm_linear_1000": _chain(schedules.linear_betas(1000), LINEAR, 1e-3),
    "ddpm_cosine_100": _chain(schedules.cosine_betas(100), COSINE, 1e-2, quadrature=5e-2),
    "ncsn_232": ProcessRow(
        processes.DiscreteVE.from_sigmas(NCSN_SIGMAS), ladder_scales(SIGMAS), 1 / 232,
        quadrature=2e-3,
    ),
    "learned_vp": ProcessRow(
        LEARNED, learned_scales, 1e-3,
        alpha_0=(1 + np.exp(-9.0)) ** -0.5, sigma_0=(1 + np.exp(9.0)) ** -0.5,
    ),
}  # fmt: skip
BETAS = {name: row.betas for name, row in PROCESSES.items() if row.betas is not None}
CHAINS = [name for name, row in PROCESSES.items() if row.process.num_steps]
SMOOTH = ["vp", "subvp", "ve"]
QUICK = ["vp", "ve", "ddpm_linear_1000"]  # the three that -m "not slow" runs
every_smooth = pytest.mark.parametrize(
    "process", ["vp", *(pytest.param(name, marks=pytest.mark.slow) for name in SMOOTH[1:])]
)


def exact_scales(name, t):
    """α(t) and σ(t) of a row."""
    return PROCESSES[name].scales(t)[:2]


def as_float64(process):
    """The same process with every parameter in float64; call it while JAX computes in float64."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), process)


# Exact distributions of one coordinate of Gaussian data, N(m, λ): every solver is affine in x there


class Affine(NamedTuple):
    """x_s = scale · x_t + shift + noise · z, z ~ N(0, 1)."""

    scale: float
    shift: float
    noise: float


def exact_moments(scales, t, s, mean, variance, start_mean, start_variance, *, churn):
    """Mean and variance at s of the reverse process that is N(start_mean, start_variance) at t.

    With y = x − αm and v = α²λ + σ² (v' = 2fv + g²), the dynamics that preserve all marginals are
    dy = [f + ½(1 + η²) g²/v] y dt + η g dw̄, so y/α is multiplied by ((v_s/α_s²)/(v_t/α_t²)) to
    the power ½(1 + η²), and the excess of the variance over v by the square of that factor.
    η = 0: the ODE, its flow preserves y/√v. η = 1: Anderson's reversal, E[x_s | x_t] of Gaussians.
    """
    (a_t, sd_t, _, _), (a_s, sd_s, _, _) = scales(t), scales(s)
    v_t, v_s = a_t**2 * variance + sd_t**2, a_s**2 * variance + sd_s**2
    gain = a_s / a_t * ((v_s / a_s**2) / (v_t / a_t**2)) ** (0.5 * (1 + churn**2))
    return a_s * mean + gain * (start_mean - a_t * mean), v_s + gain**2 * (start_variance - v_t)
