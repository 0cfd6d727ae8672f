"""The solvers and the processes that every solver is tried on: one row buys the whole battery.

Each process stands beside its α, σ, f and g² written out in plain numpy, float64, from the papers;
the exact laws below are computed from those numbers alone, never from the library's own.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import published

from jaxdiff import processes, schedules, solvers
from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers import Solver

# Solvers


class SolverRow(NamedTuple):
    make: Callable[[DenoiseFn, Process], Solver]
    published: Callable[..., np.ndarray]  # the same walk in numpy: see published.py
    order: int  # weak order, for a solver that draws noise
    evaluations: int = 1  # of the network, in one step
    churn: float = 0.0  # η: amplitude of the noise; 0 is the ODE, 1 is Anderson's SDE
    memory: int = 0  # how many earlier steps a step leans on

    @property
    def deterministic(self):
        return self.churn == 0


def both(name, **options):
    """A solver of the library, and what was published of it, with the same options."""
    return partial(getattr(solvers, name), **options), partial(getattr(published, name), **options)


def dpmpp(name, order, eta=0.0):
    """A multistep DPM-Solver++: its published form is one walk for every order."""
    walk = partial(published.dpmpp_multistep, order=order, eta=eta)
    return partial(getattr(solvers, name), eta=eta), walk


SOLVERS = {
    "ancestral": SolverRow(*both("ancestral", variance="posterior"), order=1, churn=1.0),
    "ancestral_large": SolverRow(*both("ancestral", variance="transition"), order=1, churn=1.0),
    "reverse_diffusion": SolverRow(*both("reverse_diffusion"), order=1, churn=1.0),
    "euler_maruyama": SolverRow(*both("euler_maruyama"), order=1, churn=1.0),
    "euler_maruyama_half": SolverRow(*both("euler_maruyama", eta=0.5), order=1, churn=0.5),
    "ddim_half": SolverRow(*both("ddim", eta=0.5), order=1, churn=0.5),
    "ddim_one": SolverRow(*both("ddim", eta=1.0), order=1, churn=1.0),
    "sde_dpmpp_1": SolverRow(*dpmpp("dpmpp_1", 1, 1.0), order=1, churn=1.0),
    "sde_dpmpp_1_half": SolverRow(*dpmpp("dpmpp_1", 1, 0.5), order=1, churn=0.5),
    "sde_dpmpp_2m": SolverRow(*dpmpp("dpmpp_2m", 2, 1.0), order=1, churn=1.0, memory=1),
    "sde_dpmpp_3m": SolverRow(*dpmpp("dpmpp_3m", 3, 1.0), order=1, churn=1.0, memory=2),
    "stochastic_heun": SolverRow(
        *both("stochastic_heun", churn=0.1), order=2, evaluations=2, churn=np.nan
    ),
    "ddim": SolverRow(*both("ddim"), order=1),
    "dpmpp_1": SolverRow(*dpmpp("dpmpp_1", 1), order=1),
    "dpmpp_2m": SolverRow(*dpmpp("dpmpp_2m", 2), order=2, memory=1),
    "dpmpp_3m": SolverRow(*dpmpp("dpmpp_3m", 3), order=3, memory=2),
    "unipc_1": SolverRow(*both("unipc", order=1), order=2, memory=1),
    "unipc_2": SolverRow(*both("unipc", order=2), order=3, memory=2),
    "unipc_3": SolverRow(*both("unipc", order=3), order=4, memory=3),
    "deis_2": SolverRow(*both("deis", order=2), order=2, memory=1),
    "deis_3": SolverRow(*both("deis", order=3), order=3, memory=2),
    "deis_4": SolverRow(*both("deis", order=4), order=4, memory=3),
    "heun": SolverRow(*both("heun"), order=2, evaluations=2),
    "dpm_2": SolverRow(*both("dpm_2"), order=2, evaluations=2),
    "dpm_3": SolverRow(*both("dpm_3"), order=3, evaluations=3),
    "dpmpp_2s": SolverRow(*both("dpmpp_2s"), order=2, evaluations=2),
    "dpmpp_3s": SolverRow(*both("dpmpp_3s"), order=3, evaluations=3),
    "rk4": SolverRow(*both("rk4"), order=4, evaluations=4),
}


# Processes


class Scales(NamedTuple):
    """At one time: signal α, noise σ, and the SDE's dx = f x dt + g dw."""

    alpha: float
    sigma: float
    f: float
    g2: float


class ProcessRow(NamedTuple):
    process: Process
    scales: Callable[[float], Scales]
    first_noise: float  # an early time, at which little noise has come in


def vp_scales(t, beta_min=0.1, beta_max=20.0):
    """Song et al. 2021, eq. 32 and 33."""
    beta = beta_min + t * (beta_max - beta_min)
    integral = t * beta_min + 0.5 * t**2 * (beta_max - beta_min)
    return Scales(np.exp(-0.5 * integral), np.sqrt(-np.expm1(-integral)), -0.5 * beta, beta)


def sub_vp_scales(t, beta_min=0.1, beta_max=20.0):
    """Song et al. 2021, eq. 28 and 29."""
    beta = beta_min + t * (beta_max - beta_min)
    integral = t * beta_min + 0.5 * t**2 * (beta_max - beta_min)
    g2 = beta * -np.expm1(-2 * integral)
    return Scales(np.exp(-0.5 * integral), -np.expm1(-integral), -0.5 * beta, g2)


def ve_scales(t, sigma_min=0.01, sigma_max=50.0):
    """Song et al. 2021, eq. 30 and 31."""
    sigma = sigma_min * (sigma_max / sigma_min) ** t
    return Scales(1.0, sigma, 0.0, 2 * sigma**2 * np.log(sigma_max / sigma_min))


def cosine_scales(t, s=0.008, log_snr_min=-20.0):
    """Nichol & Dhariwal 2021, eq. 17: α = cos φ/cos φ₀, stopped where log SNR = log_snr_min."""
    first = 0.5 * np.pi * s / (1 + s)
    last = np.arccos(np.cos(first) / np.sqrt(1 + np.exp(-log_snr_min)))
    phi = first + t * (last - first)
    alpha = np.cos(phi) / np.cos(first)
    f = -np.tan(phi) * (last - first)
    return Scales(alpha, np.sqrt(max(1 - alpha**2, 0.0)), f, -2 * f)


BETAS = np.linspace(1e-4, 0.02, 1000)  # Ho et al. 2020, section 4
SIGMAS = np.geomspace(0.01, 50.0, 232)  # Song & Ermon 2020, table 5: 232 rungs, for CIFAR-10


def _interval(t, num_steps):
    """Index i and position in (0, 1] with t = (i + position)/T; t = 0 belongs to the first."""
    i = int(np.clip(np.ceil(t * num_steps - 1e-3) - 1, 0, num_steps - 1))
    return i, t * num_steps - i


def discrete_vp_scales(t):
    """Ho et al. 2020, eq. 4, with log ᾱ linear, so β constant, between the nodes."""
    i, position = _interval(t, len(BETAS))
    log_alpha = 0.5 * (np.sum(np.log1p(-BETAS[:i])) + position * np.log1p(-BETAS[i]))
    f = 0.5 * len(BETAS) * np.log1p(-BETAS[i])
    return Scales(np.exp(log_alpha), np.sqrt(-np.expm1(2 * log_alpha)), f, -2 * f)


def discrete_ve_scales(t):
    """Song et al. 2021, eq. 20, with σ² linear, so g constant, between the nodes."""
    i, position = _interval(t, len(SIGMAS))
    low, high = (np.append(0.0, SIGMAS) ** 2)[i : i + 2]
    return Scales(1.0, np.sqrt(low + position * (high - low)), 0.0, len(SIGMAS) * (high - low))


PROCESSES = {
    "vp": ProcessRow(processes.VP(), vp_scales, 1e-3),
    "sub_vp": ProcessRow(processes.SubVP(), sub_vp_scales, 5e-3),
    "ve": ProcessRow(processes.VE(0.01, 50.0), ve_scales, 1e-3),
    "cosine_vp": ProcessRow(processes.CosineVP(), cosine_scales, 1e-2),
    "discrete_vp": ProcessRow(
        processes.DiscreteVP.from_betas(schedules.linear_betas(1000)), discrete_vp_scales, 1e-3
    ),
    "discrete_ve": ProcessRow(
        processes.DiscreteVE.from_sigmas(
            schedules.geometric_sigmas(232, sigma_min=0.01, sigma_max=50.0)
        ),
        discrete_ve_scales,
        1 / 232,
    ),
}


# Exact laws of one coordinate of Gaussian data, N(m, λ): there every solver is affine in x


class Affine(NamedTuple):
    """x_s = scale · x_t + shift + noise · z, z ~ N(0, 1)."""

    scale: float
    shift: float
    noise: float


def law_after(steps, mean, variance):
    """Mean and variance after a chain of affine steps from N(mean, variance)."""
    for step in steps:
        mean = step.scale * mean + step.shift
        variance = step.scale**2 * variance + step.noise**2
    return mean, variance


def exact_law(scales, t, s, mean, variance, start_mean, start_variance, *, churn):
    """Law at s of the reverse process that is N(start_mean, start_variance) at t.

    With y = x − αm and v = α²λ + σ² (v' = 2fv + g²) the dynamics that keep all marginals read
    dy = [f + ½(1 + η²) g²/v] y dt + η g dw̄, so y/α is multiplied by ((v_s/α_s²)/(v_t/α_t²)) to
    the power ½(1 + η²), and the excess of the variance over v by the square of that factor.
    η = 0: the ODE, whose flow keeps y/√v. η = 1: Anderson's reversal, E[x_s | x_t] of Gaussians.
    """
    (a_t, sd_t, _, _), (a_s, sd_s, _, _) = scales(t), scales(s)
    v_t, v_s = a_t**2 * variance + sd_t**2, a_s**2 * variance + sd_s**2
    gain = a_s / a_t * ((v_s / a_s**2) / (v_t / a_t**2)) ** (0.5 * (1 + churn**2))
    return a_s * mean + gain * (start_mean - a_t * mean), v_s + gain**2 * (start_variance - v_t)
