"""Methods for inverse problems against the exact posterior of Gaussian data, and their papers."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_posteriors import given_both, problem
from guidance_table import constant
from one_program import one_of
from process_table import BETAS, PROCESSES, as_float64

from jaxdiff import oracles, solvers
from jaxdiff.guidance import inverse
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VP

GAUSSIAN = problem(components=1, dim=8, measured=3, noise_std=0.1)
TIMES = np.array([1e-3, 0.05, 0.1, 0.3, 0.6, 0.9, 1.0])
TIGHT = inverse.Tolerance(1e-14, 50)


scales = jax.jit(lambda process, t: (process.alpha(t), process.sigma(t)))


def noised(given, process, seed=0):
    """One x_t of the data at each time, and the exact E[x_0 | x_t, y] and E[ε | x_t, y]."""
    alpha, sigma = map(np.asarray, scales(process, TIMES))
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(given.covs[0])
    x0 = given.means[0] + rng.normal(size=(len(TIMES), given.A.shape[1])) @ root.T
    x_t = alpha[:, None] * x0 + sigma[:, None] * rng.normal(size=x0.shape)
    both = [given_both(given, *each) for each in zip(x_t, alpha, sigma, strict=True)]
    return x_t, Denoised(*np.swapaxes(both, 0, 1))


def guided(method, given, process, x, t, **options):
    """The estimate of a method with the exact model of a mixture."""
    model = oracles.mixture(process, *map(constant, given[:3]))
    operator, y = inverse.matrix(constant(given.A)), constant(given.y)
    return method(model, process, operator=operator, y=y, **options)(x, t)


@jax.jit
def mmps_of_gaussian(process, x, t):
    noise_std = GAUSSIAN.noise_std
    return guided(inverse.mmps, GAUSSIAN, process, x, t, noise_std=noise_std, tolerance=TIGHT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", PROCESSES)
def test_mmps_solved_to_tolerance_is_the_exact_posterior_mean_of_gaussian_data(name):
    """To 1e-10 at every t, of every process, in both views."""
    x, exact = noised(GAUSSIAN, one_of(name))
    found = mmps_of_gaussian(one_of(name), x, TIMES)
    for view, expected in zip(found, exact, strict=True):
        np.testing.assert_allclose(view, expected, atol=1e-10)
    plain = oracles.gaussian(one_of(name), GAUSSIAN.means[0], GAUSSIAN.covs[0])
    assert np.max(np.abs(jax.jit(plain)(x, TIMES).x0 - exact.x0)) > 0.3


STANDARD = GAUSSIAN._replace(covs=np.eye(8)[None])
NOISELESS = STANDARD._replace(noise_std=0.0)


@functools.partial(jax.jit, static_argnums=0)
def pigdm_of(noisy, process, x, t):
    given = STANDARD if noisy else NOISELESS
    return guided(inverse.pigdm, given, process, x, t, noise_std=given.noise_std, tolerance=TIGHT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("name", PROCESSES)
def test_pigdm_is_exact_for_data_of_unit_covariance(name, noisy):
    """r² = σ²/(α² + σ²) is then the variance of x_0 given x_t, with and without noise in y."""
    given = STANDARD if noisy else NOISELESS
    x, exact = noised(given, one_of(name))
    found = pigdm_of(noisy, one_of(name), x, TIMES)
    for view, expected in zip(found, exact, strict=True):
        scale = np.max(np.abs(expected), axis=1, keepdims=True)
        np.testing.assert_allclose(view / scale, expected / scale, atol=1e-10)


@jax.jit
def pigdm_of_gaussian(process, x, t):
    noise_std = GAUSSIAN.noise_std
    return guided(inverse.pigdm, GAUSSIAN, process, x, t, noise_std=noise_std, tolerance=TIGHT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["vp", "ve"])
def test_pigdm_follows_its_published_score(name):
    """Song et al. 2023: ∇ log N(y; A x̂_0, s²I + r²AAᵀ) through x̂_0 alone, for Gaussian data."""
    x, _ = noised(GAUSSIAN, one_of(name))
    mean, cov, A = GAUSSIAN.means[0], GAUSSIAN.covs[0], GAUSSIAN.A
    found = pigdm_of_gaussian(one_of(name), x, TIMES)
    for i, (alpha, sigma) in enumerate(
        zip(*map(np.asarray, scales(one_of(name), TIMES)), strict=True)
    ):
        gain = alpha * cov @ np.linalg.inv(alpha**2 * cov + sigma**2 * np.eye(8))
        x0 = mean + gain @ (x[i] - alpha * mean)
        spread = 0.1**2 * np.eye(3) + sigma**2 / (alpha**2 + sigma**2) * A @ A.T
        score = gain.T @ A.T @ np.linalg.solve(spread, GAUSSIAN.y - A @ x0)
        eps = (x[i] - alpha * x0) / sigma
        np.testing.assert_allclose(found.eps[i], eps - sigma * score, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(found.x0[i], x0 + sigma**2 / alpha * score, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("y", [np.ones(3, np.float32), np.ones((7, 3), np.float32)], ids=len)
def test_mmps_evaluates_the_network_once(y):
    """All products with its Jacobian come from one forward pass; y may differ per example."""
    calls, process = Counter(), VP()
    exact = oracles.gaussian(process, *map(np.float32, (GAUSSIAN.means[0], GAUSSIAN.covs[0])))

    def counted(x, t):
        jax.debug.callback(lambda: calls.update(["evaluation"]))
        return exact(x, t)

    model = inverse.mmps(
        counted, process, operator=inverse.matrix(np.float32(GAUSSIAN.A)), y=y, noise_std=0.1
    )
    estimate = jax.jit(model)(jnp.ones((7, 8)), 0.5)
    jax.effects_barrier()
    assert calls["evaluation"] == 1
    np.testing.assert_allclose(estimate.x0, np.tile(estimate.x0[:1], (7, 1)), rtol=1e-5)


@jax.jit
def step_of_dps(key, process, x, t, s):
    """One step of ancestral sampling with the exact model of the Gaussian data."""
    model = oracles.mixture(process, *map(constant, GAUSSIAN[:3]))
    operator, y = inverse.matrix(constant(GAUSSIAN.A)), constant(GAUSSIAN.y)
    solver = solvers.ancestral(
        inverse.dps(model, process, operator=operator, y=y, scale=0.7), process
    )
    return solver.step(key, solver.init(x, t), t, s).x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("i", [1000, 700, 300, 50, 2, 1])
def test_dps_with_ancestral_sampling_is_the_published_algorithm_on_ddpms_chain(i):
    """Chung et al. 2023, algorithm 1, as released: x' of DDPM, then x ← x' − ζ ∇‖y − A x̂_0‖."""
    bars = np.append(1.0, np.cumprod(1 - BETAS["ddpm_linear_1000"]))
    bar, before, beta = bars[i], bars[i - 1], BETAS["ddpm_linear_1000"][i - 1]
    mean, cov, A = GAUSSIAN.means[0], GAUSSIAN.covs[0], GAUSSIAN.A
    x = np.random.default_rng(i).normal(size=(4, 8))
    key = jax.random.key(i)
    z = np.asarray(jax.random.normal(key, x.shape))

    gain = np.sqrt(bar) * cov @ np.linalg.inv(bar * cov + (1 - bar) * np.eye(8))
    x0 = mean + (x - np.sqrt(bar) * mean) @ gain.T
    residual = GAUSSIAN.y - x0 @ A.T
    slope = -(residual / np.linalg.norm(residual, axis=1, keepdims=True)) @ A @ gain
    step = np.sqrt(before) * beta * x0 + np.sqrt(1 - beta) * (1 - before) * x
    std = np.sqrt(beta * (1 - before) / (1 - bar))
    expected = step / (1 - bar) + std * z - 0.7 * slope

    process = as_float64(PROCESSES["ddpm_linear_1000"].process)
    got = step_of_dps(key, process, x, i / 1000, (i - 1) / 1000)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
