"""The Gaussian algebra of every process against Bayes' rule, the chain and simulation."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from assertions import assert_mean_close, assert_variance_close, float64
from process_table import BETAS, PROCESSES, as_float64, exact_scales
from process_tools import (
    INSIDE,
    every_ddpm,
    every_process,
    perturb,
    posterior,
    scales,
    transition,
    values,
)

from jaxdiff import processes
from jaxdiff.processes import VP


@every_process
def test_two_transitions_in_a_row_are_one(name):
    s, u, t = INSIDE[[0, 1, 3]]
    with float64():
        process = as_float64(PROCESSES[name].process)
        first, second, whole = (
            transition(process, s=earlier, t=later) for earlier, later in [(s, u), (u, t), (s, t)]
        )
        (alpha_s, sigma_s, _), (alpha_t, sigma_t, _) = scales(process, s), scales(process, t)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-12)
    close(second.scale * first.scale, whole.scale)
    close(np.hypot(second.scale * first.std, second.std), whole.std)
    # And noise up to s, followed by the transition, is noise up to t.
    close(whole.scale * alpha_s, alpha_t)
    close(np.hypot(whole.scale * sigma_s, whole.std), sigma_t)


@every_process
@pytest.mark.parametrize(("gap", "rtol"), [(1e-3, 1e-3), (1e-4, 5e-3)])
def test_transition_between_close_times_is_accurate_in_float32(name, gap, rtol):
    s = np.float32([0.0005, 0.0201, 0.2003, 0.5003, 0.8009, 0.9801])
    s = np.resize(s, 1203)  # the shape that the next test compiles
    t = np.float32(s + gap)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = exact_scales(name, s), exact_scales(name, t)
    scale, std = transition(PROCESSES[name].process, s=s, t=t)
    np.testing.assert_allclose(scale, alpha_t / alpha_s, rtol=rtol)
    variance = sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2
    np.testing.assert_allclose(std, np.sqrt(variance), rtol=rtol)


@every_process
def test_transition_over_the_smallest_step_of_float32_is_finite(name):
    s = np.float32(np.linspace(0, 0.999, 1203))
    t = np.nextafter(s, np.float32(2))
    chex.assert_tree_all_finite(transition(PROCESSES[name].process, s=s, t=t)._asdict())


@every_process
def test_posterior_equals_bayes_rule_by_quadrature(name):
    x_t, x0, s, t = 0.8, -1.3, 0.3711, 0.6213
    (alpha_s, sigma_s), (alpha_t, sigma_t) = exact_scales(name, s), exact_scales(name, t)
    scale = alpha_t / alpha_s
    std = np.sqrt(sigma_t**2 - (scale * sigma_s) ** 2)
    grid = alpha_s * x0 + sigma_s * np.linspace(-12, 12, 20001)
    normal = scipy.stats.norm.pdf
    density = normal(grid, alpha_s * x0, sigma_s) * normal(x_t, scale * grid, std)
    integrate = functools.partial(scipy.integrate.simpson, x=grid)
    density /= integrate(density)
    mean = integrate(grid * density)
    spread = np.sqrt(integrate((grid - mean) ** 2 * density))
    with float64():
        process = as_float64(PROCESSES[name].process)
        actual = posterior(process, jnp.array([x_t]), jnp.array([x0]), s=s, t=t)
    # The chains' tables are float32, which limits the accuracy.
    np.testing.assert_allclose(actual.mean[0], mean, rtol=2e-5)
    np.testing.assert_allclose(actual.std, spread, rtol=2e-5)


@every_process
def test_posterior_is_the_data_at_zero_noise_and_x_t_over_zero_time(name):
    x_t, x0 = jnp.array([[0.8, 2.0]]), jnp.array([[-1.3, 0.4]])
    if exact_scales(name, 0.0)[1] == 0:
        back = posterior(PROCESSES[name].process, x_t, x0, s=0.0, t=0.6213)
        np.testing.assert_allclose(back.mean, x0, rtol=1e-6)
        assert back.std <= 1e-14
    still = posterior(PROCESSES[name].process, x_t, x0, s=0.5, t=0.5)
    np.testing.assert_allclose(still.mean, x_t, rtol=1e-6)
    assert still.std <= 1e-12


def test_posterior_accepts_one_pair_of_times_per_example():
    x_t, x0 = np.random.default_rng(0).normal(size=(2, 3, 2, 2)).astype(np.float32)
    s, t = np.float32([0.1, 0.3, 0.5]), np.float32([0.2, 0.9, 0.6])
    together = posterior(VP(), x_t, x0, s=s, t=t)
    for i in range(3):
        alone = posterior(VP(), x_t[i : i + 1], x0[i : i + 1], s=s[i], t=t[i])
        np.testing.assert_allclose(together.mean[i : i + 1], alone.mean, rtol=1e-5)
        np.testing.assert_allclose(together.std[i], alone.std, rtol=1e-5)


@every_ddpm
def test_nodes_of_a_chain_are_the_cumulative_products_of_ho_2020(name):
    alpha_bar = np.cumprod(1 - BETAS[name])
    T = len(alpha_bar)
    t = np.float32(np.arange(1, T + 1) / T)
    alpha, sigma, _ = scales(PROCESSES[name].process, t)
    np.testing.assert_allclose(alpha**2, alpha_bar, rtol=2e-5)
    np.testing.assert_allclose(sigma**2, 1 - alpha_bar, rtol=1e-4)


def test_nodes_of_a_discrete_ve_are_its_sigmas():
    t = np.float32(np.arange(1, 233) / 232)
    sigmas = 0.01 * 5000 ** (np.arange(232) / 231)
    np.testing.assert_allclose(scales(PROCESSES["ncsn_232"].process, t)[1], sigmas, rtol=1e-5)


@every_ddpm
def test_a_step_of_the_chain_multiplies_by_root_one_minus_beta(name):
    betas = BETAS[name]
    i = np.arange(1, len(betas) + 1)
    s, t = np.float32((i - 1) / len(betas)), np.float32(i / len(betas))
    step = transition(PROCESSES[name].process, s=s, t=t)
    np.testing.assert_allclose(step.scale, np.sqrt(1 - betas), rtol=1e-5)
    np.testing.assert_allclose(step.std, np.sqrt(betas), rtol=2e-4)


@every_ddpm
def test_posterior_is_equation_7_of_ho_2020_at_every_step(name):
    betas = BETAS[name]
    T, alpha_bar = len(betas), np.cumprod(1 - betas)
    i = np.arange(2, T + 1)
    s, t = np.float32((i - 1) / T), np.float32(i / T)
    beta, now, before = betas[1:], alpha_bar[1:], alpha_bar[:-1]
    one, zero = np.ones(T - 1, np.float32), np.zeros(T - 1, np.float32)
    on_x0 = posterior(PROCESSES[name].process, zero, one, s=s, t=t)
    on_x_t = posterior(PROCESSES[name].process, one, zero, s=s, t=t)
    np.testing.assert_allclose(on_x0.mean, np.sqrt(before) * beta / (1 - now), rtol=5e-4)
    np.testing.assert_allclose(on_x_t.mean, np.sqrt(1 - beta) * (1 - before) / (1 - now), rtol=5e-5)
    np.testing.assert_allclose(on_x0.std**2, (1 - before) / (1 - now) * beta, rtol=5e-4)


@every_process
def test_perturb_draws_from_its_distribution(name):
    n, x0 = 4000, np.array([1.5, -0.5])
    t = np.float32(np.repeat([0.1237, 0.8887], n))
    data = jnp.tile(jnp.float32(x0), (2 * n, 1))
    x_t, eps = perturb(jax.random.key(1), PROCESSES[name].process, data, t)
    for half, when in zip(np.split(np.asarray(x_t), 2), t[[0, -1]], strict=True):
        alpha, sigma = exact_scales(name, when)
        assert_mean_close(half, alpha * x0)
        assert_variance_close(half, sigma**2, mean=alpha * x0)
    alpha, sigma = exact_scales(name, t[:, None])
    np.testing.assert_allclose(x_t, alpha * x0 + sigma * np.asarray(eps), rtol=1e-4, atol=1e-5)


def test_perturb_accepts_one_time_for_all_or_one_per_example():
    x0 = np.random.default_rng(0).normal(size=(3, 2, 2, 1)).astype(np.float32)
    key, times = jax.random.key(1), np.float32([0.2, 0.2, 0.2])
    one = perturb(key, VP(), x0, 0.2)
    np.testing.assert_allclose(one.x_t, perturb(key, VP(), x0, times).x_t, rtol=1e-6)
    moved = np.asarray(perturb(key, VP(), x0, np.float32([0.2, 0.9, 0.2])).x_t)
    assert list(np.any(one.x_t != moved, axis=(1, 2, 3))) == [False, True, False]


sample_prior = jax.jit(processes.sample_prior, static_argnums=2)
prior_log_prob = jax.jit(processes.prior_log_prob)


@every_process
def test_prior_is_the_noise_at_time_one(name):
    sigma = exact_scales(name, 1.0)[1]
    x = np.asarray(sample_prior(jax.random.key(2), PROCESSES[name].process, (4000, 2)))
    assert_mean_close(x, 0)
    assert_variance_close(x, sigma**2, mean=0)
    some = x[:5].reshape(5, 2, 1)
    expected = scipy.stats.norm.logpdf(np.asarray(x[:5], np.float64), scale=sigma).sum(1)
    log_prob = prior_log_prob(PROCESSES[name].process, some)
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5)


@every_process
def test_simulated_forward_sde_has_the_moments_of_alpha_and_sigma(name):
    process, n = PROCESSES[name].process, 3000
    steps = process.num_steps or 400
    dt, taken = 1 / steps, int(0.9 * steps)
    _, _, _, f, g2 = values(name, (np.arange(taken) + 0.5) * dt)
    random = np.random.default_rng(0)
    x = 1 + exact_scales(name, 0.0)[1] * random.standard_normal(n)
    for half, noise in zip(np.exp(f * dt / 2), np.sqrt(g2 * dt), strict=True):
        x = half * (half * x + noise * random.standard_normal(n))
    alpha, sigma = exact_scales(name, taken * dt)
    assert_mean_close(x, alpha)
    assert_variance_close(x, sigma**2, mean=alpha)
