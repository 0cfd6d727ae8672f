"""The bound of the exact model of Gaussian data: each part by hand, and its gap to the truth.

For data N(m, C) the posterior covariance of x_0 given x_t is V(SNR) = (C⁻¹ + SNR I)⁻¹, so with the
exact model E‖x_0 − x̂_0‖² = tr V, and every part of the bound has a closed form.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close, assert_variance_close
from one_program import one_of
from process_table import PROCESSES, exact_scales

from jaxdiff import losses, oracles, processes, schedules
from jaxdiff.predictions import Denoised, DenoisedWithVariance
from jaxdiff.processes import VP
from jaxdiff.typing import InputError

MEAN = np.array([0.3, -0.5, 0.1])
COV = np.array([[0.9, 0.3, 0.1], [0.3, 0.7, -0.2], [0.1, -0.2, 0.5]])
N = 20_000

# Latents near the data and near the noise, near each other and far apart; all far from the data.
WHOLE = np.array([1.0, 0.98, 0.8, 0.6, 0.45, 0.3, 0.2, 0.1, 0.04, 0.02])
GRIDS = {
    "whole": np.float32(WHOLE),
    "from_0.8": np.float32(0.8 * WHOLE),
    "far": np.linspace(0.9, 0.6, len(WHOLE), dtype=np.float32),
}


@functools.cache
def data(n=N):
    rng = np.random.default_rng(0)
    return np.float32(rng.multivariate_normal(MEAN, COV, n))


def shrunk(process, shrink=1.0):
    """The exact model, and a wrong one that says ``shrink`` times what it says."""
    exact = oracles.gaussian(process, jnp.array(MEAN.tolist()), jnp.array(COV.tolist()))

    def model(x, t):
        x0, eps = exact(x, t)
        return Denoised(shrink * x0, eps)

    return model


@jax.jit
def bound(key, process, x0, times, fraction, shrink):
    model = shrunk(process, shrink)
    return losses.elbo_terms(key, model, process, x0, times=times, variance_fraction=fraction)


def trace_posterior(snr):
    spectrum = np.linalg.eigvalsh(COV)
    return np.sum(1 / (1 / spectrum + np.asarray(snr)[..., None]), axis=-1)


def error(snr, shrink=1.0):
    """E‖x_0 − c E[x_0|x_t]‖²: what nobody can know, and what c = 1 would spare."""
    known = np.trace(COV) + MEAN @ MEAN - trace_posterior(snr)
    return trace_posterior(snr) + (1 - shrink) ** 2 * known


def divergence(widened, gap, fraction):
    """½[3(e^{−δ} − 1 + δ) + e^{−δ} gap], δ = v log ``widened``: a step wider than the posterior."""
    delta = fraction * np.log(widened)
    return 0.5 * (3 * (np.exp(-delta) - 1 + delta) + np.exp(-delta) * gap)


def by_hand(name, times, fraction=0.0, shrink=1.0):
    """Expected (prior, reconstruction, denoising) in float64, from the formulas of the process."""
    alpha, sigma = exact_scales(name, np.asarray(times, np.float64))
    snr = (alpha / sigma) ** 2
    last = exact_scales(name, np.array([1.0]))[1][0] ** 2
    ratio = sigma[0] ** 2 / last
    second = np.trace(COV) + MEAN @ MEAN
    prior = 0.5 * (3 * (ratio - 1 - np.log(ratio)) + alpha[0] ** 2 * second / last)
    decoder = 1 / snr[-1]
    decode = 1.5 * np.log(2 * np.pi * decoder) + error(snr[-1], shrink) / (2 * decoder)
    gap = (snr[1:] - snr[:-1]) * error(snr[:-1], shrink)
    denoising = np.sum(divergence((sigma[:-1] / sigma[1:]) ** 2, gap, fraction))
    return prior, decode, denoising


def negative_entropy():
    """E[−log p(x_0)], the exact mean of what is bounded."""
    return 0.5 * np.linalg.slogdet(2 * np.pi * np.e * COV)[1]


def assert_mean(values, expected, rtol=2e-4):
    values = np.asarray(values, np.float64)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) <= 5 * error + rtol * abs(expected)


def assert_each_part(seed, name, times, fraction, shrink):
    got = bound(jax.random.key(seed), one_of(name), data(), times, fraction, shrink)
    for part, expected in zip(got, by_hand(name, times, fraction, shrink), strict=True):
        assert_mean(part, expected)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", PROCESSES)
def test_each_part_is_its_closed_form(name, grid):
    assert_each_part(1, name, GRIDS[grid], 0.0, 1.0)


@pytest.mark.parametrize("fraction", [0.3, 1.0])
@pytest.mark.parametrize("name", PROCESSES)
def test_a_wider_reverse_step_costs_its_closed_form_with_a_right_and_a_wrong_model(name, fraction):
    for shrink in (1.0, 0.7):
        assert_each_part(5, name, GRIDS["whole"], fraction, shrink)


@jax.jit
def sums_of_normal_data(key, x0, times, fraction):
    """The bound of N(0, I) under VP with the decoder q(x_0|x_t), and its slope in the fraction."""
    exact = oracles.gaussian(VP(), jnp.zeros(2), jnp.eye(2))

    def total(fraction):
        elbo = losses.elbo_terms(
            key,
            exact,
            VP(),
            x0,
            times=times,
            variance_fraction=fraction,
            decoder_std=VP().sigma(times[-1]),
        )
        return elbo.prior + elbo.reconstruction + elbo.denoising

    return jax.jvp(total, (fraction,), (jnp.ones_like(fraction),))


@pytest.mark.parametrize("times", [[1.0, 0.5], [0.9, 0.6, 0.3, 0.1], np.linspace(1, 0.02, 50)])
def test_large_is_right_for_normal_data_and_its_bound_is_the_likelihood_on_any_grid(times):
    """There x_s|x_t is N(α_ts x_t, β_ts) exactly; the prior N(0, σ_1²) for N(0, 1) alone costs."""
    x0 = jnp.asarray(np.random.default_rng(0).standard_normal((N, 2)), jnp.float32)
    times = np.float32(times)
    variance = exact_scales("vp", 1.0)[1] ** 2
    cost = 1 / variance - 1 + np.log(variance)  # two components of ½[…]
    found = {
        v: sums_of_normal_data(jax.random.key(0), x0, times, jnp.float32(v))
        for v in (0.0, 0.9, 1.0, 1.1)
    }
    assert_mean(found[1.0][0], np.log(2 * np.pi * np.e) + cost)
    assert_mean_close(found[1.0][1], 0.0)  # the slope in v: the least bound is at v = 1
    for other in (0.0, 0.9, 1.1):
        worse = np.float64(found[other][0] - found[1.0][0])
        assert worse.mean() > 5 * worse.std() / np.sqrt(N)


def test_small_is_right_for_a_point_and_costs_nothing():
    """x̂_0 = c = x_0: each step is the posterior, whatever c and the noise."""
    centre, times = np.float32([[0.3, -0.5, 0.1]]), np.float32([1.0, 0.7, 0.4, 0.1])

    def denoising(fraction):
        return losses.elbo_terms(
            jax.random.key(0),
            lambda x, t: Denoised(jnp.asarray(centre), x),
            VP(),
            centre,
            times=times,
            variance_fraction=fraction,
        ).denoising

    with_slope = jax.jit(lambda fraction: jax.jvp(denoising, (fraction,), (1.0,)))
    variances = exact_scales("vp", times)[1] ** 2
    widened = variances[:-1] / variances[1:]
    assert with_slope(0.0) == (0, 0)
    for fraction in (-0.1, 0.1, 1.0):
        expected = np.sum(divergence(widened, 0, fraction))
        assert expected > 0
        np.testing.assert_allclose(with_slope(fraction)[0], [expected], rtol=1e-4)


def expected_gap(times):
    return sum(by_hand("vp", times)) - negative_entropy()


@pytest.mark.slow
def test_bound_lies_above_the_exact_likelihood_and_its_gap_falls_as_one_over_n():
    """Evenly in log SNR to t = 1e-3. Reconstruction by hand: its noise would hide the gap."""

    def order(counts, gaps):
        return -np.polyfit(np.log(counts), np.log(gaps), 1)[0]

    counts = [50, 100, 200, 400, 800, 1600]
    grids = [schedules.log_snr_times(VP(), count, t_min=1e-3) for count in counts]
    exact = [expected_gap(times) for times in grids]
    assert min(exact) > 0
    assert order(counts, exact) == pytest.approx(1, abs=0.05)
    gaps, errors = [], []
    for times in grids[:3]:  # beyond, noise hides more and more of the gap
        elbo = bound(jax.random.key(2), VP(), data(), times, 0.0, 1.0)
        parts = np.asarray(elbo.prior + elbo.denoising, np.float64)
        gaps.append(parts.mean() + by_hand("vp", times)[1] - negative_entropy())
        errors.append(parts.std() / np.sqrt(N))
    assert np.all(np.abs(np.subtract(gaps, exact[:3])) < 5 * np.array(errors) + 1e-3)
    assert np.all(np.array(gaps) > 20 * np.array(errors))
    assert order(counts[:3], gaps) == pytest.approx(1, abs=0.1)


def test_gap_of_a_chain_whose_first_step_shrinks_with_it_tends_to_eulers_constant():
    """Σ_k (1/k − log(1 + 1/k)) = γ: SNR ∝ 1/t near the data, and D/2 nats for each log of it."""
    gaps = [expected_gap(np.linspace(1, 1 / n, n)) for n in (20_000, 40_000)]
    assert 2 * gaps[1] - gaps[0] == pytest.approx(1.5 * np.euler_gamma, abs=0.02)


@jax.jit
def one_term(process, x0, guess, t, s):
    """The term of one step, and the two posteriors that it measures."""
    model = lambda x, t: Denoised(guess, x)  # noqa: E731
    elbo = losses.elbo_terms(jax.random.key(0), model, process, x0, times=jnp.stack([t, s]))
    x_t = jnp.zeros_like(x0)  # it cancels
    ends = [processes.posterior(process, x_t, end, s=s, t=t) for end in (x0, guess)]
    return elbo.denoising, *ends


@pytest.mark.parametrize("name", PROCESSES)
def test_a_denoising_term_is_the_divergence_of_two_posteriors(name):
    """KL of N(a, v) and N(b, v) is ‖a − b‖²/(2v), with the library's posterior on both sides."""
    guess = np.random.default_rng(1).normal(size=(8, 3)).astype(np.float32)
    found, (mean, std), (other, _) = one_term(one_of(name), data(8), guess, 0.6, 0.5)
    expected = np.sum(np.square(mean - other), axis=1) / (2 * float(std) ** 2)
    np.testing.assert_allclose(found, expected, rtol=1e-3)


@jax.jit
def three_terms(process, x0, times):
    return losses.elbo_terms(
        jax.random.key(3), shrunk(process), process, x0, times=times, num_terms=3
    ).denoising


def test_a_few_terms_drawn_at_random_are_unbiased_for_all():
    times = np.linspace(1, 0.02, 50, dtype=np.float32)
    assert_mean(three_terms(VP(), data(), times), by_hand("vp", times)[2])


FIXED = np.array([0.4, -1.2])
GRID = np.float32([0.9, 0.7, 0.55, 0.4, 0.3, 0.2])


@jax.jit
def draws_of_one_example(key):
    """[400, 2000] draws at one x_0, of the model x̂_0 = 0.8 x_t with fraction 0.3."""
    x0 = jnp.broadcast_to(jnp.array(FIXED.tolist()), (2000, 2))
    return losses.denoising_draws(
        key,
        lambda x, t: Denoised(0.8 * x, x),
        VP(),
        x0,
        times=jnp.array(GRID.tolist()),
        num_terms=400,
        variance_fraction=0.3,
    )


def test_draws_are_unbiased_at_every_example_and_tell_their_own_error():
    """x_0 − 0.8 x_t = (1 − 0.8α) x_0 − 0.8 σ ε; the scores (mean − truth)/error are N(0, 1)."""
    alpha, sigma = exact_scales("vp", GRID)
    snr = (alpha / sigma) ** 2
    missed = (1 - 0.8 * alpha) ** 2 * (FIXED @ FIXED) + 2 * (0.8 * sigma) ** 2
    delta = 0.3 * 2 * np.log(sigma[:-1] / sigma[1:])
    error = np.exp(-delta) * np.diff(snr) * missed[:-1]
    expected = np.sum(np.exp(-delta) - 1 + delta + 0.5 * error)
    value, std_error = losses.mean_and_error(draws_of_one_example(jax.random.key(0)))
    assert value.shape == std_error.shape == (2000,)
    assert_mean_close(value, expected)
    scores = (np.float64(value) - expected) / np.float64(std_error)
    assert_variance_close(scores, 1.0, mean=0.0)


def test_mean_and_error_are_those_of_numpy_along_any_axis():
    draws = np.random.default_rng(0).gamma(2.0, size=(5, 7)).astype(np.float32)
    for axis in (0, 1):
        value, std_error = losses.mean_and_error(jnp.asarray(draws), axis=axis)
        np.testing.assert_allclose(value, draws.mean(axis), rtol=1e-6)
        expected = draws.std(axis, ddof=1) / np.sqrt(draws.shape[axis])
        np.testing.assert_allclose(std_error, expected, rtol=1e-5)


def test_the_variance_that_a_model_learned_is_used_unless_told_otherwise():
    fractions = jnp.asarray(np.random.default_rng(1).uniform(0, 1, (8, 3)), jnp.float32)
    times, key = jnp.array(GRID.tolist()), jax.random.key(0)

    def learned(x, t):
        return DenoisedWithVariance(0.5 * x, x, fractions)

    def plain(x, t):
        return Denoised(0.5 * x, x)

    @functools.partial(jax.jit, static_argnames="num_terms")
    def every(num_terms):
        def parts(model, fraction=None):
            return losses.elbo_terms(
                key,
                model,
                VP(),
                data(8),
                times=times,
                variance_fraction=fraction,
                num_terms=num_terms,
            ).denoising

        return parts(learned), parts(plain, fractions), parts(learned, 0.0), parts(plain)

    for num_terms in (None, 4):
        own, told, overruled, small = every(num_terms)
        np.testing.assert_allclose(own, told, rtol=1e-6)
        np.testing.assert_allclose(overruled, small, rtol=1e-6)
        assert np.all(np.abs(own - small) > 1e-3)


@jax.jit
def reconstructions(x0, times):
    """With the std of the last latent and with one's own: by a decoder that shows what it is told,
    and by the default around a model that always says 0.
    """

    def reconstruction(model, **options):
        key = jax.random.key(0)
        return losses.elbo_terms(key, model, VP(), x0, times=times, **options).reconstruction

    def decoder(x0, mean, std):
        return 100 * mean[:, 0] + x0[:, 0] + std

    def model(x, t):
        return Denoised(0 * x + t, x)

    told = [reconstruction(model, decoder=decoder, decoder_std=std) for std in (None, 0.25)]
    return told, reconstruction(lambda x, t: Denoised(0 * x, x), decoder_std=0.1)


def test_the_decoder_is_told_the_estimate_and_the_std_at_the_last_latent():
    alpha, sigma = exact_scales("vp", np.float32(0.1))
    told, _ = reconstructions(data(4), np.float32([0.5, 0.1]))
    for found, expected in zip(told, (sigma / alpha, 0.25), strict=True):
        np.testing.assert_allclose(-found - data(4)[:, 0], 10 + expected, rtol=1e-5)


def test_an_own_decoder_is_its_gaussian():
    """At std 0.1 around a model that always says 0: ½‖x_0‖²/0.01 + 3 log(0.1 √2π)."""
    _, found = reconstructions(data(4), np.float32([0.5, 0.1]))
    expected = np.sum(np.square(data(4)), axis=1) / 0.02 + 3 * np.log(0.1 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_too_few_draws_are_refused():
    times = jnp.array([0.5, 0.1])
    with pytest.raises(InputError, match="num_terms is at least 1, got 0"):
        losses.elbo_terms(
            jax.random.key(0), lambda x, t: x, VP(), data(2), times=times, num_terms=0
        )
    with pytest.raises(InputError, match="at least 2 draws, got 1"):
        losses.mean_and_error(jnp.ones((1, 4)))
    with pytest.raises(InputError, match="at least 2 draws, got 1"):
        losses.mean_and_error(jnp.ones((4, 1)), axis=1)


@pytest.mark.parametrize("times", [[1.0, 0.5, 0.0], [0.5, 1.0], [1.0, 1.0], [1.0]])
def test_grids_that_are_no_chain_of_latents_are_refused(times):
    with pytest.raises(InputError, match="times"):
        losses.elbo_terms(
            jax.random.key(0),
            lambda x, t: Denoised(x, x),
            VP(),
            data(2),
            times=jnp.array(times),
        )
