"""The ELBO in three forms: over the posterior, over neighbours, and as the raw log ratio.

Data are Gaussian and the model is exact, or c times the exact one; every form then has the
expectation ``gaussian_bound.by_hand``.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close
from gaussian_bound import COV, MEAN, N, bound, by_hand, data, error, key_of, shrunk
from known_times import at_times
from one_program import one_of
from process_table import exact_scales

from jaxdiff import losses
from jaxdiff.predictions import DenoisedWithVariance
from jaxdiff.processes import VP
from jaxdiff.typing import InputError

every_process = pytest.mark.parametrize("name", ["vp", "subvp", "ve", "ddpm_linear_1000"])
GRID = np.linspace(1.0, 0.1, 10, dtype=np.float32)
PAIR = np.float32([0.9, 0.6])
MODELS = {"exact": 1.0, "shrunk": 0.7}
FRACTIONS = (0.0, 0.4)


@jax.jit
def neighbours(key, process, x0, times, fraction, shrink):
    process = at_times(process, times, 1.0)
    model = shrunk(process, shrink)
    return losses.consistency_terms(
        key, model, process, x0, times=times, variance_fraction=fraction
    )


def total(elbo):
    return sum(np.asarray(part, np.float64) for part in elbo)


@functools.cache
def total_over_neighbours(name, fraction, shrink):
    return total(neighbours(key_of(0), one_of(name), data(), GRID, fraction, shrink))


@every_process
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_both_forms_have_the_closed_form_as_mean(name, model, fraction):
    arguments = one_of(name), data(), GRID, fraction, MODELS[model]
    late = total_over_neighbours(name, fraction, MODELS[model])
    early = total(bound(key_of(1), *arguments))
    expected = sum(by_hand(name, GRID, fraction, MODELS[model]))
    assert_mean_close(late, expected)
    spread = np.hypot(late.std(), early.std()) / np.sqrt(N)
    assert abs(late.mean() - early.mean()) <= 5 * spread


def raw_log_ratio(name, times, fraction, shrink):
    """log q(x_{1:T}|x_0) − log p(x_{0:T}) along one forward trajectory for each example."""
    rng = np.random.default_rng(7)
    alphas, sigmas = exact_scales(name, np.float64(times))
    last = exact_scales(name, 1.0)[1]
    x0 = np.asarray(data(), np.float64)

    def log_density(x, mean, variance):
        return np.sum(-0.5 * (np.log(2 * np.pi * variance) + (x - mean) ** 2 / variance), axis=1)

    def estimate(x, alpha, sigma):
        gain = alpha * COV @ np.linalg.inv(alpha**2 * COV + sigma**2 * np.eye(3))
        return shrink * (MEAN + (x - alpha * MEAN) @ gain.T)

    alpha_s, sigma_s = alphas[-1], sigmas[-1]
    x_s = alpha_s * x0 + sigma_s * rng.standard_normal(x0.shape)
    ratio = log_density(x_s, alpha_s * x0, sigma_s**2)
    ratio -= log_density(x0, estimate(x_s, alpha_s, sigma_s), (sigma_s / alpha_s) ** 2)
    for alpha_t, sigma_t in zip(alphas[-2::-1], sigmas[-2::-1], strict=True):
        scale = alpha_t / alpha_s
        large = sigma_t**2 - (scale * sigma_s) ** 2
        small = sigma_s**2 * large / sigma_t**2
        x_t = scale * x_s + np.sqrt(large) * rng.standard_normal(x0.shape)
        guess = estimate(x_t, alpha_t, sigma_t)
        mean = (scale * sigma_s**2 * x_t + alpha_s * large * guess) / sigma_t**2
        ratio += log_density(x_t, scale * x_s, large)
        ratio -= log_density(x_s, mean, small ** (1 - fraction) * large**fraction)
        alpha_s, sigma_s, x_s = alpha_t, sigma_t, x_t
    return ratio - log_density(x_s, 0.0, last**2)


@every_process
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_the_raw_log_ratio_of_a_trajectory_has_the_same_mean(name, fraction):
    for shrink in MODELS.values():
        log_ratio = raw_log_ratio(name, GRID, fraction, shrink)
        late = total_over_neighbours(name, fraction, shrink)
        assert_mean_close(log_ratio, sum(by_hand(name, GRID, fraction, shrink)))
        spread = np.hypot(log_ratio.std(), late.std()) / np.sqrt(N)
        assert abs(log_ratio.mean() - late.mean()) <= 5 * spread


def parts_by_hand(name, times, fraction):
    """E[log q(x_t|x_s) − log p(x_t)] and E[log q(x_s|x_0) − log p(x_s|x_t)] of the exact model."""
    (alpha_t, alpha_s), (sigma_t, sigma_s) = exact_scales(name, np.float64(times))
    last2 = exact_scales(name, 1.0)[1] ** 2
    scale = alpha_t / alpha_s
    large = sigma_t**2 - (scale * sigma_s) ** 2
    norm2 = alpha_s**2 * (np.trace(COV) + MEAN @ MEAN) + 3 * sigma_s**2
    prior = 0.5 * (3 * (large / last2 - 1 - np.log(large / last2)) + scale**2 * norm2 / last2)

    # x_s − μ(x_t, x̂_0) is the posterior's noise plus p(x_0 − x̂_0).
    pulled, small = alpha_s * large / sigma_t**2, sigma_s**2 * large / sigma_t**2
    missed = 3 * small + pulled**2 * error((alpha_t / sigma_t) ** 2)
    variance = small ** (1 - fraction) * large**fraction
    return prior, 0.5 * (3 * (np.log(variance / sigma_s**2) - 1) + missed / variance)


@every_process
@pytest.mark.parametrize("fraction", FRACTIONS)
def test_each_part_of_two_latents_matches_its_closed_form(name, fraction):
    arguments = one_of(name), data(), PAIR, fraction, 1.0
    found = neighbours(key_of(3), *arguments)
    prior, denoising = parts_by_hand(name, PAIR, fraction)
    assert_mean_close(found.prior, prior)
    assert_mean_close(found.denoising, denoising)
    assert_mean_close(found.reconstruction, by_hand(name, PAIR)[1])
    assert sum(by_hand(name, PAIR, fraction)) == pytest.approx(
        prior + denoising + by_hand(name, PAIR)[1], rel=1e-9
    )


@pytest.mark.slow
def test_the_form_over_neighbours_varies_more_and_increasingly_with_chain_length():
    """In the parts that differ, prior and denoising; the reconstruction is the same."""

    def ratio(process, x0, times):
        found = (form(key_of(0), process, x0, times, 0.0, 1.0) for form in (neighbours, bound))
        late, early = (np.float64(form.prior + form.denoising) for form in found)
        return late.var() / early.var()

    of_ten = ratio(one_of("vp"), data(), GRID)
    of_hundred = ratio(VP(), data(5000), np.linspace(1, 0.01, 100, dtype=np.float32))
    assert 1.05 < of_ten < 3.0 < of_hundred


@pytest.mark.slow
def test_a_learned_variance_is_used_unless_overridden():
    fractions = jnp.asarray(np.random.default_rng(1).uniform(0, 1, (8, 3)), jnp.float32)
    process, plain = VP(), shrunk(VP())

    def learned(x, t):
        return DenoisedWithVariance(*plain(x, t), fractions)

    @jax.jit
    def every(x0):
        def parts(model, fraction=None):
            return losses.consistency_terms(
                jax.random.key(0), model, process, x0, times=GRID, variance_fraction=fraction
            ).denoising

        given = jax.vmap(lambda fraction: parts(learned, fraction))
        return parts(learned), *given(jnp.stack([fractions, 0 * fractions])), parts(plain)

    own, given, overruled, small = every(data(8))
    np.testing.assert_allclose(own, given, rtol=1e-5)
    np.testing.assert_allclose(overruled, small, rtol=1e-5)
    assert np.all(np.abs(own - small) > 1e-3)


def test_the_decoder_gets_its_std():
    @jax.jit
    def reconstructions(x0):
        return [
            losses.consistency_terms(
                jax.random.key(0),
                shrunk(VP()),
                VP(),
                x0,
                times=GRID,
                decoder=lambda x0, mean, std: x0[:, 0] + std,
                decoder_std=std,
            ).reconstruction
            for std in (None, 0.25)
        ]

    alpha, sigma = exact_scales("vp", GRID[-1])
    for found, std in zip(reconstructions(data(4)), (sigma / alpha, 0.25), strict=True):
        np.testing.assert_allclose(-found - data(4)[:, 0], 4 * [std], rtol=1e-5)


@pytest.mark.parametrize("times", [[1.0, 0.5, 0.0], [0.5, 1.0], [1.0]])
def test_grids_that_are_not_a_chain_of_latents_are_refused(times):
    process = VP()
    with pytest.raises(InputError, match="times"):
        losses.consistency_terms(
            jax.random.key(0), shrunk(process), process, data(2), times=jnp.array(times)
        )
