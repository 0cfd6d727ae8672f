"""Langevin correctors against the published steps, and their stationary distributions."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close, assert_variance_close
from corrector_tools import (
    BARS,
    DDPM,
    KEY,
    LADDER,
    NCSN,
    eps_model,
    linear_model,
    normals,
    numbers,
    one,
)

import jaxdiff
from jaxdiff import oracles, schedules
from jaxdiff.processes import VE, VP, DiscreteVE
from jaxdiff.solvers.langevin import annealed_langevin, langevin

# One step of the correctors


@pytest.mark.parametrize("num_steps", [1, 3])
@pytest.mark.parametrize("norms", ["example", "batch"])
@pytest.mark.parametrize("i", [1000, 300])
def test_langevin_is_the_published_corrector(i, norms, num_steps):
    """Song et al. 2021, algorithm 5 with α_i = 1: ε = 2(r‖z‖/‖g‖)², x + εg + √(2ε) z."""
    x, r, gain = numbers(5, 2, 3), 0.2, 1.3
    expected = x.astype(np.float64)
    for z in normals(KEY, x.shape, num_steps):
        g = -gain * expected / np.sqrt(1 - BARS[i])
        lengths = [np.sqrt(np.sum(v**2, axis=(1, 2), keepdims=True)) for v in (z, g)]
        if norms == "batch":  # the published code's means
            lengths = [np.mean(v) for v in lengths]
        step = 2 * (r * lengths[0] / lengths[1]) ** 2
        expected = expected + step * g + np.sqrt(2 * step) * z
    solver = langevin(linear_model(DDPM, gain), DDPM, snr=r, num_steps=num_steps, norms=norms)
    for s in (i / 1000, 0.001):  # the second time has no effect
        np.testing.assert_allclose(one(solver, KEY, x, i / 1000, s), expected, rtol=2e-5, atol=2e-5)


def test_langevin_steps_are_scaled_by_sigma_for_ve():
    """Song et al. 2021, algorithm 4, at σ_i = 50 and at 0.1."""
    x, eps = numbers(2, 5, 3)
    (z,) = normals(KEY, x.shape, 1)
    for i in (232, 64):
        g = -eps / LADDER[i]
        step = 2 * (0.16 * np.linalg.norm(z, axis=1) / np.linalg.norm(g, axis=1))[:, None] ** 2
        solver = langevin(eps_model(NCSN, eps), NCSN)
        got = one(solver, KEY, x, i / 232, i / 232)
        np.testing.assert_allclose(got, x + step * g + np.sqrt(2 * step) * z, rtol=2e-4, atol=1e-4)


ANNEALED = {  # ε, steps per noise scale, and the paper's factors of the score and the noise
    "ncsn": (2e-5, 100, lambda a: (a / 2, np.sqrt(a))),
    "ncsnv2": (6.2e-6, 5, lambda a: (a, np.sqrt(2 * a))),
}
STEP_SIZES = {"ncsn": 0.1, "ncsnv2": 0.062}


@pytest.mark.parametrize("i", [232, 64, 1])
@pytest.mark.parametrize("paper", ANNEALED)
def test_annealed_langevin_is_the_published_sampler_at_every_noise_scale(paper, i):
    """Song & Ermon 2019, algorithm 1, and 2020, algorithm 1: α_i = ε σ_i²/σ_L², σ_L = 0.01.

    At the last noise scale NCSNv2 continues to x + σ_L² score.
    """
    x, gain = LADDER[i] * numbers(4, 3), 0.8 / LADDER[i]
    size, num_steps, factors = ANNEALED[paper]
    drift, noise = factors(size * LADDER[i] ** 2 / LADDER[1] ** 2)
    denoise = paper == "ncsnv2"
    expected = x.astype(np.float64)
    for z in normals(KEY, x.shape, num_steps):
        expected = expected + drift * -gain * expected / LADDER[i] + noise * z
    if i == 1 and denoise:
        expected = expected + LADDER[i] ** 2 * -gain * expected / LADDER[i]
    options = {} if denoise else {"step_size": STEP_SIZES[paper], "num_steps": num_steps}
    solver = annealed_langevin(linear_model(NCSN, gain), NCSN, denoise=denoise, **options)
    got = one(solver, KEY, x.astype(np.float32), i / 232, (i - 1) / 232)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4 * LADDER[i])


# The limit of many steps

QUICK = jax.random.key(0, impl="rbg")  # draws many numbers in a third of the time


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def correct_for_long(key, process, x, num_steps, norms, dim, snr, t, mean, variance):
    exact = oracles.gaussian(process, jnp.full(dim, mean), variance * jnp.eye(dim))
    solver = langevin(exact, process, snr=snr, num_steps=num_steps, norms=norms)
    return solver.step(key, solver.init(x, t), t, t).x


SNR = 0.4


@pytest.mark.parametrize(("process", "t"), [(VP(), 0.4), (VE(0.01, 50.0), 0.6)], ids=["vp", "ve"])
def test_batch_norms_reach_one_plus_snr_squared_times_the_variance(process, t):
    """V = v/(1 − a/2v) is stationary for step a; a = 2r²v²/V by the norms, so V = v(1 + r²)."""
    exact, draws = settled(process, t, "batch", dim=2, batch=8192)
    assert_mean_close(draws, exact.mean)
    assert_variance_close(draws, exact.variance * (1 + SNR**2), mean=exact.mean)
    with pytest.raises(AssertionError):  # so that the bias is measured, not tolerated
        assert_variance_close(draws, exact.variance, mean=exact.mean)


@pytest.mark.parametrize(("process", "t"), [(VP(), 0.4), (VE(0.01, 50.0), 0.6)], ids=["vp", "ve"])
def test_norms_of_an_example_reach_their_own_balance(process, t):
    """Stationary E‖y‖⁻² = 1/(v(1 + r²)(D + 2)), y = x − αm, in any dimension D.

    y' = y − 2r²v (‖z‖²/‖y‖²) y + 2rv (‖z‖/‖y‖) z: the loss of ‖y‖², 4r²v E‖z‖², must equal its
    gain, 4(r² + r⁴)v² E‖z‖⁴ E‖y‖⁻², and E‖z‖⁴ = (D + 2) E‖z‖².
    """
    dim = 16
    exact, draws = settled(process, t, "example", dim=dim, batch=2048)
    assert_mean_close(draws, exact.mean)
    inverse = 1 / (exact.variance * (1 + SNR**2) * (dim + 2))
    assert_mean_close(np.sum((draws - exact.mean) ** 2, axis=1, keepdims=True) ** -1, inverse)
    with pytest.raises(AssertionError):
        assert_mean_close(
            np.sum((draws - exact.mean) ** 2, axis=1, keepdims=True) ** -1, inverse * (1 + SNR**2)
        )


class Marginal(NamedTuple):
    """Mean and variance of each coordinate at t."""

    mean: float
    variance: float


def marginal_at(process, t):
    """For data N(0.7, 0.5), from the papers' α and σ: Song et al. 2021, eq. 29."""
    if isinstance(process, VP):
        alpha2 = np.exp(-0.5 * t**2 * 19.9 - 0.1 * t)
        return Marginal(0.7 * np.sqrt(alpha2), 0.5 * alpha2 + 1 - alpha2)
    return Marginal(0.7, 0.5 + (0.01 * 5000**t) ** 2)


def settled(process, t, norms, *, dim, batch):
    """Draws after 60 corrections from the exact marginal, each of which forgets a quarter."""
    exact = marginal_at(process, t)
    x = (exact.mean + np.sqrt(exact.variance) * numbers(batch, dim)).astype(np.float32)
    x = correct_for_long(QUICK, process, x, 60, norms, dim, SNR, t, 0.7, 0.5)
    return exact, np.asarray(x, np.float64)


def test_annealed_langevin_has_the_variance_of_ncsnv2_at_every_noise_scale():
    """Song & Ermon 2020, proposition 3, at each noise scale: data at one point, γ = σ_{i−1}/σ_i.

    s_T²/σ_i² = (1 − c)^{2T} (γ² − 2c/(1 − (1 − c)²)) + 2c/(1 − (1 − c)²), c = ε/σ_L², times what
    the relative error at the previous noise scale.
    """
    count, c, num_steps = 30, 0.1, 5
    sigmas = np.geomspace(0.1, 10.0, count)
    process = DiscreteVE.from_sigmas(sigmas)
    rest = 2 * c / (1 - (1 - c) ** 2)
    off = 1.0
    for i in range(count - 1, -1, -1):
        gamma2 = (sigmas[min(i + 1, count - 1)] / sigmas[i]) ** 2
        off = (1 - c) ** (2 * num_steps) * (gamma2 * off - rest) + rest

    @jax.jit
    def run(key, x):
        exact = oracles.gaussian(process, jnp.zeros(2), jnp.zeros((2, 2)))
        solver = annealed_langevin(exact, process, step_size=c, num_steps=num_steps, denoise=False)
        return jaxdiff.sample(key, solver, x, schedules.uniform_times(count))

    x = run(QUICK, 10 * numbers(8192, 2))
    assert 1.1 < off < 1.6  # the noise scales fall faster than the sampler can follow
    assert_variance_close(x, off * sigmas[0] ** 2, mean=0.0)
    assert_mean_close(x, 0.0)


MODES = np.array([0.3, 0.7]), np.array([-2.0, 2.0]), np.array([0.3, 0.5])


@pytest.mark.slow
def test_annealed_langevin_finds_both_modes_with_the_weights_of_its_own_chain():
    """The density of the published chain is propagated through every step by quadrature.

    The weights lag behind the stationary ones, the less the more steps per noise scale: for the
    right mode's 0.7 the chain has 0.656, 0.677, 0.687 and 0.694 at 10, 20, 40 and 80 steps.
    """
    weights, means, stds = MODES
    count, c, num_steps = 12, 0.1, 40
    sigmas = np.geomspace(0.2, 6.0, count)
    grid = np.linspace(-36, 36, 1441)
    width = grid[1] - grid[0]
    density = np.exp(-0.5 * (grid / 6) ** 2)
    density /= np.sum(density)
    for sigma in sigmas[::-1]:
        kept = slice(*np.flatnonzero(density > 1e-20)[[0, -1]])  # contracts with every noise scale
        grid, density = grid[kept], density[kept]
        spread = np.hypot(stds, sigma)
        parts = weights / spread * np.exp(-0.5 * ((grid[:, None] - means) / spread) ** 2) + 1e-300
        share = parts / np.sum(parts, axis=1, keepdims=True)
        score = np.sum(share * (means - grid[:, None]) / spread**2, axis=1)
        a = c * sigma**2
        assert np.sqrt(2 * a) > 1.2 * width  # or the trapezoidal rule would not be exact
        kernel = np.exp(-((grid[:, None] - (grid + a * score)) ** 2) / (4 * a))
        kernel *= width / np.sqrt(4 * np.pi * a)
        for _ in range(num_steps):
            density = kernel @ density
    assert np.sum(density) == pytest.approx(1, abs=1e-6)

    def moments(x):
        return np.stack([x, x**2, x**3, np.tanh(4 * x)], axis=-1)

    expected = density @ moments(grid)
    process = DiscreteVE.from_sigmas(sigmas)

    @jax.jit
    def run(key, x):
        exact = oracles.mixture(process, weights, means[:, None], stds)
        solver = annealed_langevin(exact, process, step_size=c, num_steps=num_steps, denoise=False)
        return jaxdiff.sample(key, solver, x, schedules.uniform_times(count))

    x = run(QUICK, 6 * numbers(10_000, 1))
    assert_mean_close(moments(np.asarray(x, np.float64)[:, 0]), expected)
    assert np.sum(density[grid > 0]) == pytest.approx(0.7, abs=0.02)
