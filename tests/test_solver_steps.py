"""One step of every solver against its paper, in plain numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import one_of
from process_table import PROCESSES, vp_scales
from solver_samples import ROWS, endpoint

from jaxdiff import solvers
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP

# One step against the papers


@pytest.mark.parametrize("process", PROCESSES)
def test_ddim_at_eta_one_matches_ancestral_sample_for_sample(process):
    """α_s r + α_s(1 − r) = α_s and α_ts σ_s²/σ_t = σ_s √r, with r = SNR_t/SNR_s."""
    row = PROCESSES[process]
    x = np.random.default_rng(0).normal(size=(ROWS, 2))
    for t, s in [(1.0, 0.9), (0.9, 0.5), (0.5, 0.499), (0.3, row.first_noise), (0.4, 0.0)]:
        x_t = x * row.scales(t).sigma + row.scales(t).alpha
        one, other = (
            endpoint(name, one_of(process), x_t, [t, s]) for name in ("ddim_one", "ancestral")
        )
        scale = np.hypot(row.scales(s).alpha, row.scales(s).sigma)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * scale, err_msg=f"{t}, {s}")


@pytest.mark.parametrize("eta", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(("i", "j"), [(1000, 999), (1000, 900), (500, 250), (20, 10), (1, 0)])
def test_ddim_is_the_published_step_on_the_chain(i, j, eta):
    """Song, Meng & Ermon 2021: x_j = √ᾱ_j x̂_0 + √(1 − ᾱ_j − s²) ε̂ + s z (12), s(η) of (16)."""
    bars = np.append(1.0, np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
    process = PROCESSES["ddpm_linear_1000"].process
    rng = np.random.default_rng(0)
    x, eps = rng.normal(size=(2, 5, 3)).astype(np.float32)
    key = jax.random.key(3)
    z = np.asarray(jax.random.normal(key, x.shape))

    x0 = (x - np.sqrt(1 - bars[i]) * eps) / np.sqrt(bars[i])
    std = eta * np.sqrt((1 - bars[j]) / (1 - bars[i])) * np.sqrt(1 - bars[i] / bars[j])
    mean = np.sqrt(bars[j]) * x0 + np.sqrt(1 - bars[j] - std**2) * eps

    solver = solvers.ddim(eps_model(process, eps), process, eta=eta)
    got = solver.step(key, solver.init(x, i / 1000), i / 1000, j / 1000).x
    np.testing.assert_allclose(got, mean + std * z, rtol=1e-4, atol=1e-4)


def eps_model(process, eps):
    """A model that predicts the same noise for any input."""
    return lambda x, t: Denoised((x - process.sigma(t) * eps) / process.alpha(t), eps)


@pytest.mark.parametrize("i", [1000, 999, 500, 20, 2, 1])
def test_ancestral_is_the_published_step_of_ddpm(i):
    """Ho et al. 2020, eq. 11: (x − β ε̂/√(1 − ᾱ))/√(1 − β) + √β̃ z, β̃ of eq. 7; z = 0 at i = 1."""
    betas = np.linspace(1e-4, 0.02, 1000)
    bars = np.append(1.0, np.cumprod(1 - betas))
    process, beta = PROCESSES["ddpm_linear_1000"].process, betas[i - 1]
    rng = np.random.default_rng(i)
    x, eps = rng.normal(size=(2, 5, 3)).astype(np.float32)
    key = jax.random.key(4)
    z = np.asarray(jax.random.normal(key, x.shape))

    mean = (x - beta / np.sqrt(1 - bars[i]) * eps) / np.sqrt(1 - beta)
    std = np.sqrt((1 - bars[i - 1]) / (1 - bars[i]) * beta)

    solver = solvers.ancestral(eps_model(process, eps), process)
    got = solver.step(key, solver.init(x, i / 1000), i / 1000, (i - 1) / 1000).x
    np.testing.assert_allclose(got, mean + std * z, rtol=1e-5, atol=1e-5)
    if i == 1:
        assert std == 0
        np.testing.assert_allclose(got, mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("i", [232, 100, 2])
def test_ancestral_is_the_published_step_of_ncsn(i):
    """Song et al. 2021, appendix F: x + Δ score + √(σ_{i−1}² Δ/σ_i²) z with Δ = σ_i² − σ_{i−1}²."""
    ladder = np.append(0.0, np.geomspace(0.01, 50.0, 232))
    process = PROCESSES["ncsn_232"].process
    high, low = ladder[i], ladder[i - 1]
    rng = np.random.default_rng(i)
    x, eps = rng.normal(size=(2, 5, 3)).astype(np.float32)
    key = jax.random.key(5)
    z = np.asarray(jax.random.normal(key, x.shape))

    expected = x - (high**2 - low**2) * eps / high
    expected = expected + np.sqrt(low**2 * (high**2 - low**2)) / high * z
    solver = solvers.ancestral(eps_model(process, eps), process)
    got = solver.step(key, solver.init(x, i / 232), i / 232, (i - 1) / 232).x
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * high)


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.98), (0.5, 0.3), (0.1, 0.0)])
def test_euler_maruyama_is_the_published_step(t, s):
    """Song et al. 2021, appendix E on eq. 6: x + [½βx − β ε̂/σ] Δ + √(βΔ) z for VP, Δ = t − s."""
    scales = vp_scales(t)
    beta, delta = 0.1 + 19.9 * t, t - s
    rng = np.random.default_rng(0)
    x, eps = rng.normal(size=(2, 5, 3)).astype(np.float32)
    key = jax.random.key(6)
    z = np.asarray(jax.random.normal(key, x.shape))

    expected = x + (0.5 * beta * x - beta * eps / scales.sigma) * delta + np.sqrt(beta * delta) * z
    solver = solvers.euler_maruyama(eps_model(VP(), eps), VP())
    got = solver.step(key, solver.init(x, t), jnp.asarray(t), jnp.asarray(s)).x
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_heun_is_the_published_step():
    """Karras et al. 2022, algorithm 1, on VE, where σ is the time: lines 4 to 8 in numpy."""
    process, t, s = VE(0.01, 50.0), 0.6, 0.4
    t_now, t_next = (0.01 * 5000**time for time in (t, s))
    x = np.random.default_rng(0).normal(size=(5, 3)) * t_now

    def denoise(x, level):  # any model will do; this one is not linear
        return np.tanh(x / (1 + level))

    slope_now = (x - denoise(x, t_now)) / t_now
    euler = x + (t_next - t_now) * slope_now
    slope_next = (euler - denoise(euler, t_next)) / t_next
    expected = x + (t_next - t_now) * 0.5 * (slope_now + slope_next)

    def denoise_fn(x, time):
        sigma = process.sigma(time)
        x0 = jnp.tanh(x / (1 + sigma))
        return Denoised(x0, (x - x0) / sigma)

    solver = solvers.heun(denoise_fn, process)
    got = solver.step(jax.random.key(0), solver.init(jnp.asarray(x), t), t, s).x
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)
