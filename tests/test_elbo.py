"""The whole ELBO: each part by hand, which reverse step is optimal, and the gap to the truth."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close
from gaussian_bound import (
    GRIDS,
    N,
    assert_mean,
    bound,
    by_hand,
    data,
    divergence,
    exact_bound,
    key_of,
    negative_entropy,
)
from one_program import one_of
from process_table import PROCESSES, exact_scales

from jaxdiff import losses, oracles, schedules
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VP
from jaxdiff.typing import InputError


def assert_each_part(seed, name, times, fraction, shrink):
    got = bound(key_of(seed), one_of(name), data(), times, fraction, shrink)
    for part, expected in zip(got, by_hand(name, times, fraction, shrink), strict=True):
        assert_mean(part, expected)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("name", PROCESSES)
def test_each_part_matches_its_closed_form(name, grid):
    assert_each_part(1, name, GRIDS[grid], 0.0, 1.0)


@pytest.mark.parametrize("fraction", [0.3, 1.0])
@pytest.mark.parametrize("name", PROCESSES)
def test_the_cost_of_a_wider_reverse_step_matches_its_closed_form(name, fraction):
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


@pytest.mark.parametrize("times", [[1.0, 0.5], [0.9, 0.6, 0.3, 0.1], np.linspace(1, 0.02, 20)])
def test_large_is_optimal_for_normal_data_with_a_tight_bound_on_any_grid(times):
    """There x_s|x_t is N(α_ts x_t, β_ts) exactly; only the prior N(0, σ_1²) for N(0, 1) costs."""
    n = 20_000
    x0 = np.float32(np.random.default_rng(0).standard_normal((n, 2)))
    times = np.float32(times)
    variance = exact_scales("vp", 1.0)[1] ** 2
    cost = 1 / variance - 1 + np.log(variance)  # two components of ½[…]
    found = {
        v: sums_of_normal_data(key_of(0), x0, times, np.float32(v)) for v in (0.0, 0.9, 1.0, 1.1)
    }
    assert_mean(found[1.0][0], np.log(2 * np.pi * np.e) + cost)
    assert_mean_close(found[1.0][1], 0.0)  # the slope in v: the bound is minimal at v = 1
    for other in (0.0, 0.9, 1.1):
        worse = np.float64(found[other][0] - found[1.0][0])
        assert worse.mean() > 5 * worse.std() / np.sqrt(n)


def test_small_is_optimal_for_a_point_and_costs_nothing():
    """x̂_0 = c = x_0: each step is the posterior, for any c and noise."""
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


@functools.partial(jax.jit, static_argnums=0)
def log_snr_times(count):
    return schedules.log_snr_times(VP(), count, t_min=1e-3)


long_bound = jax.jit(exact_bound)


def expected_gap(times):
    return sum(by_hand("vp", times)) - negative_entropy()


@pytest.mark.slow
def test_the_gap_to_the_exact_likelihood_falls_as_one_over_n():
    """Evenly in log SNR to t = 1e-3; reconstruction by hand, since its noise would hide the gap."""

    def order(counts, gaps):
        return -np.polyfit(np.log(counts), np.log(gaps), 1)[0]

    counts = [50, 100, 200, 400, 800, 1600]
    grids = [log_snr_times(count) for count in counts]
    exact = [expected_gap(times) for times in grids]
    assert min(exact) > 0
    assert order(counts, exact) == pytest.approx(1, abs=0.05)
    gaps, errors = [], []
    for times in grids[:3]:  # beyond these, noise increasingly hides the gap
        elbo = long_bound(key_of(2), VP(), data(), times, 0.0, 1.0)
        parts = np.float64(elbo.prior) + np.float64(elbo.denoising)
        gaps.append(parts.mean() + by_hand("vp", times)[1] - negative_entropy())
        errors.append(parts.std() / np.sqrt(N))
    assert np.all(np.abs(np.subtract(gaps, exact[:3])) < 5 * np.array(errors) + 1e-3)
    assert np.all(np.array(gaps) > 20 * np.array(errors))
    assert order(counts[:3], gaps) == pytest.approx(1, abs=0.1)


def test_gap_of_a_chain_with_a_shrinking_first_step_tends_to_eulers_constant():
    """Σ_k (1/k − log(1 + 1/k)) = γ: SNR ∝ 1/t near the data, and D/2 nats for each log."""
    gaps = [expected_gap(np.linspace(1, 1 / n, n)) for n in (20_000, 40_000)]
    assert 2 * gaps[1] - gaps[0] == pytest.approx(1.5 * np.euler_gamma, abs=0.02)


@pytest.mark.parametrize("times", [[1.0, 0.5, 0.0], [0.5, 1.0], [1.0, 1.0], [1.0]])
def test_grids_that_are_not_a_chain_of_latents_are_refused(times):
    with pytest.raises(InputError, match="times"):
        losses.elbo_terms(
            jax.random.key(0),
            lambda x, t: Denoised(x, x),
            VP(),
            data(2),
            times=jnp.array(times),
        )
