"""Single terms of the ELBO: their divergences, random subsets, their decoders."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close, assert_variance_close
from gaussian_bound import assert_mean, by_hand, data, key_of, shrunk
from known_times import at_times
from one_program import one_of
from process_table import PROCESSES, exact_scales

from jaxdiff import losses, processes
from jaxdiff.predictions import Denoised, DenoisedWithVariance
from jaxdiff.processes import VP
from jaxdiff.typing import InputError


@jax.jit
def one_term(process, x0, guess, t, s):
    """The term of one step, and the two posteriors that it compares."""
    process = at_times(process, t, s, 1.0)
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
        key_of(3), shrunk(process), process, x0, times=times, num_terms=3
    ).denoising


def test_a_random_subset_of_terms_is_unbiased():
    times = np.linspace(1, 0.02, 50, dtype=np.float32)
    assert_mean(three_terms(VP(), data(), times), by_hand("vp", times)[2])


mean_and_error = jax.jit(losses.mean_and_error, static_argnames="axis")
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


def test_draws_are_unbiased_at_every_example_with_calibrated_errors():
    """x_0 − 0.8 x_t = (1 − 0.8α) x_0 − 0.8 σ ε; the scores (mean − truth)/error are N(0, 1)."""
    alpha, sigma = exact_scales("vp", GRID)
    snr = (alpha / sigma) ** 2
    missed = (1 - 0.8 * alpha) ** 2 * (FIXED @ FIXED) + 2 * (0.8 * sigma) ** 2
    delta = 0.3 * 2 * np.log(sigma[:-1] / sigma[1:])
    error = np.exp(-delta) * np.diff(snr) * missed[:-1]
    expected = np.sum(np.exp(-delta) - 1 + delta + 0.5 * error)
    value, std_error = jax.device_get(mean_and_error(draws_of_one_example(key_of(0))))
    assert value.shape == std_error.shape == (2000,)
    assert_mean_close(value, expected)
    scores = (np.float64(value) - expected) / np.float64(std_error)
    assert_variance_close(scores, 1.0, mean=0.0)


def test_mean_and_error_match_numpy_along_any_axis():
    draws = np.random.default_rng(0).gamma(2.0, size=(5, 7)).astype(np.float32)
    for axis in (0, 1):
        value, std_error = mean_and_error(draws, axis=axis)
        np.testing.assert_allclose(value, draws.mean(axis), rtol=1e-6)
        expected = draws.std(axis, ddof=1) / np.sqrt(draws.shape[axis])
        np.testing.assert_allclose(std_error, expected, rtol=1e-5)


@pytest.mark.slow
def test_a_learned_variance_is_used_unless_overridden():
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
        own, given, overruled, small = every(num_terms)
        np.testing.assert_allclose(own, given, rtol=1e-6)
        np.testing.assert_allclose(overruled, small, rtol=1e-6)
        assert np.all(np.abs(own - small) > 1e-3)


@jax.jit
def reconstructions(x0, times):
    """With the std of the last latent and with a given one: by a decoder that shows its arguments,
    and by the default decoder around a model that always predicts 0.
    """

    def reconstruction(model, **options):
        key = jax.random.key(0)
        return losses.elbo_terms(key, model, VP(), x0, times=times, **options).reconstruction

    def decoder(x0, mean, std):
        return 100 * mean[:, 0] + x0[:, 0] + std

    def model(x, t):
        return Denoised(0 * x + t, x)

    given = [reconstruction(model, decoder=decoder, decoder_std=std) for std in (None, 0.25)]
    return given, reconstruction(lambda x, t: Denoised(0 * x, x), decoder_std=0.1)


def test_the_decoder_gets_the_estimate_and_the_std_at_the_last_latent():
    alpha, sigma = exact_scales("vp", np.float32(0.1))
    given, _ = reconstructions(data(4), np.float32([0.5, 0.1]))
    for found, expected in zip(given, (sigma / alpha, 0.25), strict=True):
        np.testing.assert_allclose(-found - data(4)[:, 0], 10 + expected, rtol=1e-5)


def test_a_given_decoder_std_gives_that_gaussian():
    """At std 0.1 around a model that always predicts 0: ½‖x_0‖²/0.01 + 3 log(0.1 √2π)."""
    _, found = reconstructions(data(4), np.float32([0.5, 0.1]))
    expected = np.sum(np.square(data(4)), axis=1) / 0.02 + 3 * np.log(0.1 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_too_few_draws_are_refused():
    times = jnp.array([0.5, 0.1])
    with pytest.raises(InputError, match="num_terms must be a positive integer, got 0"):
        losses.elbo_terms(
            jax.random.key(0), lambda x, t: x, VP(), data(2), times=times, num_terms=0
        )
    with pytest.raises(InputError, match="at least 2 draws, got 1"):
        losses.mean_and_error(jnp.ones((1, 4)))
    with pytest.raises(InputError, match="at least 2 draws, got 1"):
        losses.mean_and_error(jnp.ones((4, 1)), axis=1)
