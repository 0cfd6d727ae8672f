"""The bound of the exact model of Gaussian data: each part by hand, and its gap to the truth.

For data N(m, C) the posterior covariance of x_0 given x_t is V(SNR) = (C⁻¹ + SNR I)⁻¹, so with the
exact model E‖x_0 − x̂_0‖² = tr V, and every part of the bound has a closed form.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import PROCESSES, exact_scales

from jaxdiff import losses, oracles, processes, schedules
from jaxdiff.processes import VP
from jaxdiff.typing import InputError

MEAN = np.array([0.3, -0.5, 0.1])
COV = np.array([[0.9, 0.3, 0.1], [0.3, 0.7, -0.2], [0.1, -0.2, 0.5]])
N = 20_000


def data(n=N):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.multivariate_normal(MEAN, COV, n), jnp.float32)


@jax.jit
def bound(key, process, x0, times):
    exact = oracles.gaussian(process, jnp.array(MEAN.tolist()), jnp.array(COV.tolist()))
    return losses.elbo_terms(key, exact, process, x0, times=times)


def trace_posterior(snr):
    spectrum = np.linalg.eigvalsh(COV)
    return np.sum(1 / (1 / spectrum + np.asarray(snr)[..., None]), axis=-1)


def by_hand(name, times):
    """Expected (prior, reconstruction, denoising) in float64, from the formulas of the process."""
    alpha, sigma = exact_scales(name, np.asarray(times, np.float64))
    snr = (alpha / sigma) ** 2
    last = exact_scales(name, np.array([1.0]))[1][0] ** 2
    ratio = sigma[0] ** 2 / last
    second = np.trace(COV) + MEAN @ MEAN
    prior = 0.5 * (3 * (ratio - 1 - np.log(ratio)) + alpha[0] ** 2 * second / last)
    decoder = 1 / snr[-1]
    decode = 1.5 * np.log(2 * np.pi * decoder) + trace_posterior(snr[-1]) / (2 * decoder)
    denoising = 0.5 * np.sum((snr[1:] - snr[:-1]) * trace_posterior(snr[:-1]))
    return prior, decode, denoising


def negative_entropy():
    """E[−log p(x_0)], the exact mean of what is bounded."""
    return 0.5 * np.linalg.slogdet(2 * np.pi * np.e * COV)[1]


def assert_mean(values, expected, rtol=2e-4):
    values = np.asarray(values, np.float64)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) <= 5 * error + rtol * abs(expected)


@pytest.mark.parametrize("t_max", [1.0, 0.8])
@pytest.mark.parametrize("name", PROCESSES)
def test_each_part_is_its_closed_form(name, t_max):
    chain = getattr(PROCESSES[name], "num_steps", 50)
    times = np.linspace(t_max, t_max / min(chain, 50), min(chain, 50))
    got = bound(jax.random.key(1), PROCESSES[name], data(), jnp.asarray(times, jnp.float32))
    for part, expected in zip(got, by_hand(name, np.float32(times)), strict=True):
        assert_mean(part, expected)


@pytest.mark.parametrize("name", PROCESSES)
def test_each_part_of_two_latents_far_from_the_data_is_its_closed_form(name):
    times = np.float32([0.9, 0.6])
    got = bound(jax.random.key(4), PROCESSES[name], data(), jnp.asarray(times))
    for part, expected in zip(got, by_hand(name, times), strict=True):
        assert_mean(part, expected)


def expected_gap(times):
    return sum(by_hand("vp", times)) - negative_entropy()


def test_bound_lies_above_the_exact_likelihood_and_its_gap_falls_as_one_over_n():
    """Evenly in log SNR to t = 1e-3. Reconstruction by hand: its noise would hide the gap."""
    counts, gaps, exact, errors = [50, 100, 200, 400, 800, 1600], [], [], []
    for count in counts:
        times = schedules.log_snr_times(VP(), count, t_min=1e-3)
        elbo = bound(jax.random.key(2), VP(), data(), times)
        parts = np.asarray(elbo.prior + elbo.denoising, np.float64)
        gaps.append(parts.mean() + by_hand("vp", times)[1] - negative_entropy())
        exact.append(expected_gap(times))
        errors.append(parts.std() / np.sqrt(N))
    assert np.all(np.abs(np.subtract(gaps, exact)) < 5 * np.array(errors) + 1e-3)
    assert min(exact) > 0
    assert -np.polyfit(np.log(counts), np.log(exact), 1)[0] == pytest.approx(1, abs=0.05)
    resolved = np.array(gaps) > 20 * np.array(errors)  # where the noise hides next to nothing
    assert np.sum(resolved) >= 3
    slope = np.polyfit(np.log(np.array(counts)[resolved]), np.log(np.array(gaps)[resolved]), 1)[0]
    assert -slope == pytest.approx(1, abs=0.1)


def test_gap_of_a_chain_whose_first_step_shrinks_with_it_tends_to_eulers_constant():
    """Σ_k (1/k − log(1 + 1/k)) = γ: SNR ∝ 1/t near the data, and D/2 nats for each log of it."""
    gaps = [expected_gap(np.linspace(1, 1 / n, n)) for n in (20_000, 40_000)]
    assert 2 * gaps[1] - gaps[0] == pytest.approx(1.5 * np.euler_gamma, abs=0.02)


@pytest.mark.parametrize("name", PROCESSES)
def test_a_denoising_term_is_the_divergence_of_two_posteriors(name):
    """KL of N(a, v) and N(b, v) is ‖a − b‖²/(2v), with the library's posterior on both sides."""
    process, t, s = PROCESSES[name], 0.6, 0.5
    x0 = data(8)
    guess = jnp.asarray(np.random.default_rng(1).normal(size=x0.shape), jnp.float32)
    elbo = losses.elbo_terms(
        jax.random.key(0),
        lambda x, t: oracles.Denoised(guess, x),
        process,
        x0,
        times=jnp.array([t, s]),
    )
    x_t = jnp.zeros_like(x0)  # it cancels
    mean, std = processes.posterior(process, x_t, x0, s=s, t=t)
    other, _ = processes.posterior(process, x_t, guess, s=s, t=t)
    expected = np.sum(np.square(mean - other), axis=1) / (2 * float(std) ** 2)
    np.testing.assert_allclose(elbo.denoising, expected, rtol=1e-3)


def test_a_few_terms_drawn_at_random_are_unbiased_for_all():
    process, times, x0 = VP(), schedules.uniform_times(49, t_min=0.02), data()
    exact = oracles.gaussian(process, jnp.array(MEAN.tolist()), jnp.array(COV.tolist()))
    drawn = losses.elbo_terms(
        jax.random.key(3), exact, process, x0, times=times, num_terms=3
    ).denoising
    assert_mean(drawn, by_hand("vp", times)[2])


def test_an_own_decoder_is_its_gaussian():
    """At std 0.1 around a model that always says 0: ½‖x_0‖²/0.01 + 3 log(0.1 √2π)."""
    x0 = data(16)
    elbo = losses.elbo_terms(
        jax.random.key(0),
        lambda x, t: oracles.Denoised(0 * x, x),
        VP(),
        x0,
        times=jnp.array([0.5, 0.1]),
        decoder_std=0.1,
    )
    expected = np.sum(np.square(x0), axis=1) / 0.02 + 3 * np.log(0.1 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(elbo.reconstruction, expected, rtol=1e-5)


@pytest.mark.parametrize("times", [[1.0, 0.5, 0.0], [0.5, 1.0], [1.0, 1.0], [1.0]])
def test_grids_that_are_no_chain_of_latents_are_refused(times):
    with pytest.raises(InputError, match="times"):
        losses.elbo_terms(
            jax.random.key(0),
            lambda x, t: oracles.Denoised(x, x),
            VP(),
            data(2),
            times=jnp.array(times),
        )
