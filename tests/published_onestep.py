"""Every one-step solver again, in plain numpy and float64, from its paper or its published code.

A sampler here is ``(model, scales, times, x, z) -> x``, where ``model(x, t)`` is x̂_0,
``scales`` is the process in numpy, and ``z [n, ...]`` the noise. No part of it uses the library.
"""

import functools
import math
from typing import NamedTuple

from process_table import SMOOTH
from scipy import optimize
from solver_table import entry

from jaxdiff import solvers


class At(NamedTuple):
    """The quantities at one time that papers use."""

    t: float
    alpha: float
    sigma: float
    f: float
    g2: float

    @property
    def bar(self):
        """σ/α, EDM's σ."""
        return self.sigma / self.alpha

    @property
    def lam(self):
        """log(α/σ), DPM-Solver's λ."""
        return math.log(self.alpha / self.sigma) if self.sigma > 0 else math.inf


def at(scales, t):
    alpha, sigma, f, g2 = scales(t)
    return At(t, float(alpha), float(sigma), float(f), float(g2))


def time_at(scales, lam):
    """Where log(α/σ) is ``lam``; it falls with t."""
    return optimize.brentq(lambda t: at(scales, t).lam - lam, 1e-12, 1.0, xtol=1e-15, rtol=1e-14)


def noise_of(model, p, x):
    return (x - p.alpha * model(x, p.t)) / p.sigma


def stepwise(step):
    """The sampler that applies a memoryless step ``(model, scales, p, q, x, z) -> x``."""

    @functools.wraps(step)
    def sample(model, scales, times, x, z, **options):
        for t, s, noise in zip(times[:-1], times[1:], z, strict=True):
            x = step(model, scales, at(scales, t), at(scales, s), x, noise, **options)
        return x

    return sample


@entry("ddim", solvers.ddim, order=1, inverse_order=1)
@entry("ddim_half", solvers.ddim, options={"eta": 0.5}, order=1, churn=0.5)
@entry("ddim_one", solvers.ddim, options={"eta": 1.0}, order=1, churn=1.0, exact_mean=SMOOTH)
@stepwise
def ddim(model, scales, p, q, x, z, eta=0.0):
    """Song, Meng & Ermon 2021, eq. 12 and 16, for any α and σ."""
    variance = p.sigma**2 - (p.alpha / q.alpha) ** 2 * q.sigma**2
    std = eta * math.sqrt(max(variance, 0.0)) * q.sigma / p.sigma
    held = math.sqrt(max(q.sigma**2 - std**2, 0.0))
    return q.alpha * model(x, p.t) + held * noise_of(model, p, x) + std * z


@entry(
    "ancestral",
    solvers.ancestral,
    options={"variance": "posterior"},
    order=1,
    churn=1.0,
    exact_mean=SMOOTH,
)
@entry(
    "ancestral_large",
    solvers.ancestral,
    options={"variance": "transition"},
    order=1,
    churn=1.0,
    noise_of_x=True,
    exact_mean=SMOOTH,
)
@stepwise
def ancestral(model, scales, p, q, x, z, variance="posterior"):
    """Kingma et al. 2021, eq. 25, with x̂_0 for x_0; Ho et al. 2020's other choice is σ² = β."""
    ratio = p.alpha / q.alpha
    lost = p.sigma**2 - ratio**2 * q.sigma**2
    mean = (ratio * q.sigma**2 * x + q.alpha * lost * model(x, p.t)) / p.sigma**2
    small = q.sigma / p.sigma if variance == "posterior" or q.sigma < 1e-9 else 1.0
    return mean + math.sqrt(max(lost, 0.0)) * small * z


@entry(
    "reverse_diffusion",
    solvers.reverse_diffusion,
    order=1,
    churn=1.0,
    noise_of_x=True,
    exact_mean=("ve",),
)
@stepwise
def reverse_diffusion(model, scales, p, q, x, z):
    """Song et al. 2021, eq. 46, for the chain x_t = α_ts x_s + σ_ts z."""
    ratio = p.alpha / q.alpha
    variance = max(p.sigma**2 - ratio**2 * q.sigma**2, 0.0)
    score = -noise_of(model, p, x) / p.sigma
    return x - (ratio - 1) * x + variance * score + math.sqrt(variance) * z


@entry("euler_maruyama", solvers.euler_maruyama, order=1, churn=1.0, noise_of_x=True)
@entry(
    "euler_maruyama_half",
    solvers.euler_maruyama,
    options={"eta": 0.5},
    order=1,
    churn=0.5,
    noise_of_x=True,
)
@stepwise
def euler_maruyama(model, scales, p, q, x, z, eta=1.0):
    """Song et al. 2021, eq. 6, and Zhang & Chen 2023, eq. 4."""
    score = -noise_of(model, p, x) / p.sigma
    drift = p.f * x - 0.5 * (1 + eta**2) * p.g2 * score
    return x + drift * (q.t - p.t) + eta * math.sqrt(p.g2 * (p.t - q.t)) * z


def slope(model, x_bar, p):
    """Karras et al. 2022, algorithm 1, line 4, in x/α and σ/α."""
    return (x_bar - model(p.alpha * x_bar, p.t)) / p.bar


@entry("heun", solvers.heun, order=2, evaluations=2, inverse_order=3)
@stepwise
def heun(model, scales, p, q, x, z):
    """Karras et al. 2022, algorithm 1."""
    x_bar = x / p.alpha
    first = slope(model, x_bar, p)
    euler = x_bar + (q.bar - p.bar) * first
    if q.sigma == 0:
        return q.alpha * euler
    second = slope(model, euler, q)
    return q.alpha * (x_bar + (q.bar - p.bar) * 0.5 * (first + second))


@entry(
    "stochastic_heun",
    solvers.stochastic_heun,
    options={"churn": 0.1},
    order=2,
    evaluations=2,
    churn=math.nan,
)
@stepwise
def stochastic_heun(model, scales, p, q, x, z, churn):
    """Karras et al. 2022, algorithm 2, with γ = churn and S_noise = 1, not beyond t = 1."""
    raised = min(p.bar * (1 + churn), at(scales, 1.0).bar)
    start = at(scales, time_at(scales, -math.log(raised)))
    x_hat = x / p.alpha + math.sqrt(max(raised**2 - p.bar**2, 0.0)) * z
    return heun.__wrapped__(model, scales, start, q, start.alpha * x_hat, z)


@entry("rk4", solvers.rk4, order=4, evaluations=4)
@stepwise
def rk4(model, scales, p, q, x, z):
    """The classical method on dx̄/dσ̄."""
    x_bar, h = x / p.alpha, q.bar - p.bar
    first = slope(model, x_bar, p)
    if q.sigma == 0:
        return q.alpha * (x_bar + h * first)
    middle = at(scales, time_at(scales, -math.log(0.5 * (p.bar + q.bar))))
    second = slope(model, x_bar + 0.5 * h * first, middle)
    third = slope(model, x_bar + 0.5 * h * second, middle)
    fourth = slope(model, x_bar + h * third, q)
    return q.alpha * (x_bar + h / 6 * (first + 2 * second + 2 * third + fourth))


@entry("dpm_2", solvers.dpm_2, order=2, evaluations=2)
@stepwise
def dpm_2(model, scales, p, q, x, z):
    """Lu et al. 2022 (DPM-Solver), algorithm 1, r_1 = 1/2."""
    if q.sigma == 0:
        return q.alpha * model(x, p.t)
    h = q.lam - p.lam
    m = at(scales, time_at(scales, p.lam + h / 2))
    u = m.alpha / p.alpha * x - m.sigma * math.expm1(h / 2) * noise_of(model, p, x)
    return q.alpha / p.alpha * x - q.sigma * math.expm1(h) * noise_of(model, m, u)


@entry("dpm_3", solvers.dpm_3, order=3, evaluations=3)
@stepwise
def dpm_3(model, scales, p, q, x, z):
    """Lu et al. 2022 (DPM-Solver), algorithm 2, r_1 = 1/3 and r_2 = 2/3."""
    if q.sigma == 0:
        return q.alpha * model(x, p.t)
    h, r1, r2 = q.lam - p.lam, 1 / 3, 2 / 3
    m1, m2 = (at(scales, time_at(scales, p.lam + r * h)) for r in (r1, r2))
    eps = noise_of(model, p, x)
    u1 = m1.alpha / p.alpha * x - m1.sigma * math.expm1(r1 * h) * eps
    d1 = noise_of(model, m1, u1) - eps
    u2 = m2.alpha / p.alpha * x - m2.sigma * math.expm1(r2 * h) * eps
    u2 = u2 - m2.sigma * r2 / r1 * (math.expm1(r2 * h) / (r2 * h) - 1) * d1
    d2 = noise_of(model, m2, u2) - eps
    plain = q.alpha / p.alpha * x - q.sigma * math.expm1(h) * eps
    return plain - q.sigma / r2 * (math.expm1(h) / h - 1) * d2


@entry("dpmpp_2s", solvers.dpmpp_2s, order=2, evaluations=2)
@stepwise
def dpmpp_2s(model, scales, p, q, x, z):
    """Lu et al. 2022 (DPM-Solver++), algorithm 1, r = 1/2."""
    if q.sigma == 0:
        return q.alpha * model(x, p.t)
    h = q.lam - p.lam
    m = at(scales, time_at(scales, p.lam + h / 2))
    u = m.sigma / p.sigma * x - m.alpha * math.expm1(-h / 2) * model(x, p.t)
    return q.sigma / p.sigma * x - q.alpha * math.expm1(-h) * model(u, m.t)


@entry("dpmpp_3s", solvers.dpmpp_3s, order=3, evaluations=3)
@stepwise
def dpmpp_3s(model, scales, p, q, x, z):
    """The data-prediction form of DPM-Solver-3 (Lu et al. 2022, DPM-Solver++, appendix)."""
    if q.sigma == 0:
        return q.alpha * model(x, p.t)
    h, r1, r2 = q.lam - p.lam, 1 / 3, 2 / 3
    m1, m2 = (at(scales, time_at(scales, p.lam + r * h)) for r in (r1, r2))
    x0 = model(x, p.t)
    u1 = m1.sigma / p.sigma * x - m1.alpha * math.expm1(-r1 * h) * x0
    d1 = model(u1, m1.t) - x0
    u2 = m2.sigma / p.sigma * x - m2.alpha * math.expm1(-r2 * h) * x0
    u2 = u2 + m2.alpha * r2 / r1 * (math.expm1(-r2 * h) / (r2 * h) + 1) * d1
    d2 = model(u2, m2.t) - x0
    plain = q.sigma / p.sigma * x - q.alpha * math.expm1(-h) * x0
    return plain + q.alpha / r2 * (math.expm1(-h) / h + 1) * d2
