"""Twisted sequential Monte Carlo: its weights, its resampling, and the exact posterior."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_posteriors import posterior
from guidance_table import GIVEN, constant, exact
from process_table import exact_scales
from scipy import stats

import jaxdiff
from jaxdiff import processes, schedules, solvers
from jaxdiff.guidance import inverse
from jaxdiff.processes import VP
from jaxdiff.solvers.twisted import Particles, _resampled

STD = GIVEN.noise_std
PROCESS = VP()


def log_twist(x, t, estimate):
    twist = inverse.gaussian_twist(
        PROCESS,
        operator=inverse.matrix(constant(GIVEN.A)),
        y=constant(GIVEN.y),
        noise_std=STD,
        data_std=1.5,
    )
    return twist(x, t, estimate)


@functools.partial(jax.jit, static_argnums=0)
def one_step(threshold, key, x, t, s):
    model = exact(PROCESS).denoise_fn
    solver = solvers.twisted(model, PROCESS, log_twist_fn=log_twist, threshold=threshold)
    first = solver.init(x, t)
    return first, solver.step(key, first, t, s), model(x, t).x0


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("t", "s"), [(1.0, 0.8), (0.5, 0.45), (0.1, 0.0)])
def test_weights_are_ratios_of_densities(t, s):
    """Wu et al. 2023, eq. 11: p(x_s | x_t) p̃(y | x_s)/(p̃(y | x_t) p̃(x_s | x_t, y)), by scipy."""
    x = np.random.default_rng(0).normal(size=(5, 3))
    first, last, x0 = one_step(0.0, jax.random.key(0), x, t, s)
    (a_t, sd_t), (a_s, sd_s) = (exact_scales("vp", time) for time in (t, s))
    ratio = a_t / a_s
    spread = sd_t**2 - ratio**2 * sd_s**2
    mean = ratio * sd_s**2 / sd_t**2 * x + a_s * spread / sd_t**2 * np.asarray(x0)
    variance = spread * sd_s**2 / sd_t**2
    r2 = sd_t**2 * 1.5**2 / (a_t**2 * 1.5**2 + sd_t**2)
    expected = stats.norm.logpdf(GIVEN.y, np.asarray(x0) @ GIVEN.A.T, np.sqrt(STD**2 + r2)).sum(1)
    np.testing.assert_allclose(first.log_weights, expected, rtol=1e-10)
    expected = expected + np.asarray(last.log_twist - first.log_twist)
    if s > 0:
        shifted = mean + variance * np.asarray(first.score)
        for centre, sign in ((mean, 1), (shifted, -1)):
            each = stats.norm.logpdf(np.asarray(last.x), centre, np.sqrt(variance))
            expected = expected + sign * each.sum(1)
    np.testing.assert_allclose(last.log_weights, expected, rtol=1e-8, atol=1e-8)
    assert np.std(expected) > 0.01


@pytest.mark.usefixtures("x64")
def test_twist_is_the_likelihood_at_the_data():
    x = np.random.default_rng(0).normal(size=(5, 3))
    first, _, x0 = one_step(0.0, jax.random.key(0), x, 0.0, 0.0)
    expected = stats.norm.logpdf(GIVEN.y, x @ GIVEN.A.T, STD).sum(1)
    np.testing.assert_allclose(x0, x, rtol=1e-10)
    np.testing.assert_allclose(first.log_weights, expected, rtol=1e-8)


def test_effective_sample_size_of_equal_and_unequal_weights():
    for weights, expected in (([1, 1, 1, 1], 4), ([1, 0, 0, 0], 1), ([3, 1], 16 / 10)):
        log_weights = jnp.log(jnp.array(weights, float)) + 100.0
        found = solvers.effective_sample_size(log_weights)
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_resampling_copies_each_particle_as_often_as_its_weight_to_within_one():
    """All of its numbers together; the evidence keeps the mean weight."""
    weights = np.random.default_rng(0).exponential(size=64)
    name = jnp.arange(64.0)
    log_weights = jnp.log(jnp.array(weights, jnp.float32))
    before = Particles(name[:, None], log_weights, jnp.float32(2.0), *[name] * 3)
    counts = np.zeros(64)
    for k in range(20):
        after = _resampled(jax.random.key(k), before)
        for column in (after.log_twist, after.score, after.x0):
            np.testing.assert_array_equal(column, after.x[:, 0])
        own = np.bincount(np.asarray(after.x[:, 0], int), minlength=64)
        assert np.all(np.abs(own - 64 * weights / weights.sum()) < 1 + 1e-4)
        counts += own / 20
    np.testing.assert_array_equal(after.log_weights, np.zeros(64))
    np.testing.assert_allclose(after.log_evidence, 2 + np.log(weights.mean()), rtol=1e-5)
    assert np.max(np.abs(counts - 64 * weights / weights.sum())) < 0.6  # its mean is the weight


def populations(threshold, twist, count, times, key):
    """Weighted mean and covariance, effective sample size and evidence of some populations."""

    model = exact(PROCESS).denoise_fn

    def run(key):
        x = processes.sample_prior(key, PROCESS, (count, 3))
        x, (log_weights, evidence) = jaxdiff.trajectory(
            jax.random.fold_in(key, 1),
            solvers.twisted(model, PROCESS, log_twist_fn=twist, threshold=threshold),
            x,
            times,
            save_fn=lambda state: (state.log_weights, state.log_evidence),
        )
        weights = jax.nn.softmax(log_weights[-1])
        mean = weights @ x
        away = x - mean[None]
        total = evidence[-1] + jax.nn.logsumexp(log_weights[-1]) - jnp.log(count)
        size = solvers.effective_sample_size(log_weights[-1])
        return mean, (weights[:, None] * away).T @ away, size, total

    found = jax.jit(jax.vmap(run))(jax.random.split(key, 8))
    return [np.asarray(each, np.float64) for each in found]


@pytest.mark.slow
def test_weighted_moments_and_evidence_are_those_of_the_exact_posterior():
    """At 4,000 particles within 5 standard errors, those of 8 independent populations."""
    weights, means, covs = posterior(GIVEN)
    mean = weights @ means
    away = means - mean
    cov = np.einsum("k,kij->ij", weights, covs + away[:, :, None] * away[:, None, :])
    densities = [
        w * stats.multivariate_normal.pdf(
            GIVEN.y, GIVEN.A @ m, GIVEN.A @ c @ GIVEN.A.T + STD**2 * np.eye(2)
        )
        for w, m, c in zip(*GIVEN[:3], strict=True)
    ]  # fmt: skip
    times = schedules.log_snr_times(PROCESS, 200, t_min=1e-4)
    found = populations(0.5, log_twist, 4000, times, jax.random.key(0))
    for got, exact_value in zip(found[:2], (mean, cov), strict=True):
        std_error = got.std(0, ddof=1)
        assert np.max(np.abs(got - exact_value) / std_error) < 5
        assert np.max(std_error) < 0.03
    evidence = np.exp(found[3])
    assert abs(evidence.mean() - sum(densities)) < 5 * evidence.std(ddof=1) / np.sqrt(8)
    assert np.min(found[2]) > 1000


def test_with_the_exact_twist_the_weights_stay_even():
    """log p(c | x_t) of a class: all that is left is the discretisation of the chain."""
    models = exact(PROCESS)

    def exact_twist(x, t, estimate):
        return models.log_prob_fn(1)(x, t)

    times = schedules.log_snr_times(PROCESS, 60, t_min=1e-3)
    mean, _, size, _ = populations(0.0, exact_twist, 300, times, jax.random.key(1))
    assert np.min(size) > 0.9 * 300
    of_class = np.array([1, 0, 1]) * GIVEN.weights
    expected = of_class @ GIVEN.means / of_class.sum()
    assert np.max(np.abs(mean.mean(0) - expected) / (mean.std(0, ddof=1) / np.sqrt(8))) < 5
