"""The continuous ELBO of Gaussian data: by quadrature, by the exact likelihood, in two forms.

For data N(m, C) with the exact model E‖x_0 − x̂_0‖² = tr (C⁻¹ + SNR I)⁻¹ at every time, and every
bound is an integral over a scalar, the SNR.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close
from one_program import one_of
from process_table import exact_scales

from jaxdiff import divergence, losses, oracles
from jaxdiff.losses import times, weights
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VP, SubVP

MEAN = np.array([0.3, -0.5, 0.1])
COV = np.array([[0.9, 0.3, 0.1], [0.3, 0.7, -0.2], [0.1, -0.2, 0.5]])
SPECTRUM = np.linalg.eigvalsh(COV)
N, T_MIN = 10_000, 0.01
WRONG = 0.8
"""The wrong model predicts this fraction of the exact noise."""
CASES = ["vp", "subvp", "ve", "cosine_vp", "learned_vp", "ddpm_cosine_100"]
every_case = pytest.mark.parametrize("name", CASES)


@functools.cache
def data():
    return np.random.default_rng(0).multivariate_normal(MEAN, COV, N).astype(np.float32)


def model_of(process, fraction):
    exact = oracles.gaussian(process, jnp.array(MEAN.tolist()), jnp.array(COV.tolist()))

    def denoise_fn(x_t, t):
        eps = fraction * exact(x_t, t).eps
        alpha, sigma = (
            jnp.broadcast_to(f(t), x_t.shape[:1]) for f in (process.alpha, process.sigma)
        )
        return Denoised((x_t - sigma[:, None] * eps) / alpha[:, None], eps)

    return denoise_fn


@jax.jit
def bounds(key, process, x0, fraction):
    """(continuous bound, Girsanov with exact and with Hutchinson's divergence), each ``[N]``."""
    time_key, *keys = jax.random.split(key, 5)
    time = times.importance(time_key, N, process, weights.likelihood, t_min=T_MIN)
    model = model_of(process, fraction)
    hutchinson = functools.partial(divergence.hutchinson, keys[3])
    elbo = losses.continuous_elbo(keys[0], model, process, x0, time, t_min=T_MIN)
    girsanov = functools.partial(losses.girsanov_bound, t_min=T_MIN)
    return (
        elbo,
        girsanov(keys[1], model, process, x0, time),
        girsanov(keys[2], model, process, x0, time, divergence_fn=hutchinson),
    )


@functools.cache
def drawn(name, fraction):
    return jax.device_get(bounds(jax.random.key(1), one_of(name), data(), fraction))


def snr(name, t):
    alpha, sigma = exact_scales(name, np.asarray(t, np.float64))
    return (alpha / sigma) ** 2


def integral(name, fraction, num=400_001, t_min=T_MIN):
    """½ ∫ E‖ε − c ε*‖² d(−log SNR): (1 − c)² times D, and 1 − (1 − c)² times the exact model's.

    With ε* = E[ε|x_t], E‖ε − cε*‖² = E‖ε − ε*‖² + (1 − c)² E‖ε*‖², and E‖ε*‖² = D − E‖ε − ε*‖².
    """
    ends = np.log(snr(name, [t_min, 1.0]))
    log_snr = np.linspace(*ends, num)
    known = np.exp(log_snr)[:, None] / (1 / SPECTRUM + np.exp(log_snr)[:, None])
    best = np.sum(known, axis=1)  # SNR·tr V
    error = best + (1 - fraction) ** 2 * (3 - best)
    return 0.5 * np.trapezoid(error, -log_snr)


def entropy_of_noise(name):
    return 1.5 * np.log(2 * np.pi * np.e * exact_scales(name, np.array(T_MIN))[1] ** 2)


def prior(name):
    alpha, sigma = exact_scales(name, np.array(1.0))
    return 0.5 * alpha**2 * (np.trace(COV) + MEAN @ MEAN) / sigma**2


@pytest.mark.slow
@every_case
@pytest.mark.parametrize("fraction", [1.0, WRONG])
def test_each_part_is_its_quadrature(name, fraction):
    elbo = drawn(name, fraction)[0]
    assert_mean_close(elbo.denoising, integral(name, fraction))
    np.testing.assert_allclose(np.mean(elbo.prior, dtype=np.float64), prior(name), rtol=0.05)


@every_case
def test_bound_of_the_exact_model_is_the_exact_likelihood_at_t_min(name):
    """x_{t_min} ~ N(αm, α²C + σ²I): no model can go below its entropy."""
    alpha, sigma = exact_scales(name, np.array(T_MIN))
    exact = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * (alpha**2 * COV + sigma**2 * np.eye(3)))[1]
    elbo, *girsanov = drawn(name, 1.0)
    assert_mean_close(
        elbo.prior + elbo.denoising + entropy_of_noise(name), exact + loss_of_prior(name)
    )
    for bound in girsanov:
        assert_mean_close(bound, exact + loss_of_prior(name))


def loss_of_prior(name):
    """KL(p_1 ‖ π) of the exact model: N(αm, α²C + σ²) against N(0, σ²) at t = 1."""
    alpha, sigma = exact_scales(name, np.array(1.0))
    ratio = alpha**2 * SPECTRUM / sigma**2
    return 0.5 * (np.sum(ratio - np.log1p(ratio)) + alpha**2 * MEAN @ MEAN / sigma**2)


@every_case
@pytest.mark.parametrize("fraction", [1.0, WRONG])
def test_the_forms_of_the_bound_differ_by_the_stated_constant(name, fraction):
    elbo, exact, hutchinson = (np.asarray(part, np.float64) for part in drawn(name, fraction))
    prior, _, denoising = elbo
    first = prior + denoising + entropy_of_noise(name)
    for other in (exact, hutchinson):
        error = np.hypot(first.std(), other.std()) / np.sqrt(N)
        assert abs(first.mean() - other.mean()) < 5 * error


@every_case
def test_a_wrong_model_pays_half_the_squared_distance_of_the_scores(name):
    """½ ∫ g² E‖s − ∇log p‖² dt (Song et al. 2021b, theorem 1), (1 − c)² of ½ ∫ g² E‖∇log p‖²."""
    excess = integral(name, WRONG) - integral(name, 1.0)
    assert excess > 0
    right, wrong = (np.asarray(drawn(name, c)[1], np.float64) for c in (1.0, WRONG))
    error = np.hypot(right.std(), wrong.std()) / np.sqrt(N)
    assert abs(wrong.mean() - right.mean() - excess) < 5 * error


@jax.jit
def difference_of_rates(process, x0, t):
    """The wrong model's Girsanov rate minus its denoising rate, with the same noise in both."""
    arguments = jax.random.key(3), model_of(process, WRONG), process, x0, jnp.full(N, t)
    return losses.girsanov_rate(*arguments) - losses.denoising_rate(*arguments)


@pytest.mark.parametrize("name", ["vp", "subvp", "ve", "learned_vp", "ddpm_linear_1000"])
def test_rates_differ_by_the_partial_integration_term(name):
    """E[girsanov − denoising] = −½ g²D/σ² − Df at each time, also for a wrong model."""
    t, h = 0.4003, 1e-5
    (a0, s0), (a1, s1) = exact_scales(name, np.array(t - h)), exact_scales(name, np.array(t + h))
    f = np.log(a1 / a0) / (2 * h)
    sigma2 = exact_scales(name, np.array(t))[1] ** 2
    g2 = (s1**2 - s0**2) / (2 * h) - 2 * f * sigma2
    values = np.asarray(difference_of_rates(one_of(name), data(), t), np.float64)
    error = values.std() / np.sqrt(N)
    constant = -1.5 * g2 / sigma2 - 3 * f
    assert abs(values.mean() - constant) < 5 * error + 1e-3 * abs(constant)


def test_the_sum_over_latents_converges_to_the_integral():
    """A sum over intervals even in log SNR exceeds its integral by a term of order 1/n."""
    gaps = []
    for n in (400, 800, 1600):
        log_snr = np.linspace(*np.log(snr("vp", [1.0, T_MIN])), n + 1)
        rate = np.sum(1 / (1 / SPECTRUM + np.exp(log_snr[:-1, None])), axis=1)
        gaps.append(0.5 * np.sum(np.diff(np.exp(log_snr)) * rate) - integral("vp", 1.0))
    assert np.all(np.array(gaps) > 0)
    assert gaps[0] / gaps[2] == pytest.approx(4, rel=0.05)
    # tests/test_elbo.py checks that the library computes this sum


@every_case
def test_reconstruction_matches_the_gaussian_decoder(name):
    """½D log 2πs² + E‖x_0 − x̂_0‖²/(2s²) at s = σ/α."""
    ratio = snr(name, T_MIN)
    error = np.sum(1 / (1 / SPECTRUM + ratio))
    expected = 1.5 * np.log(2 * np.pi / ratio) + 0.5 * ratio * error
    assert_mean_close(drawn(name, 1.0)[0].reconstruction, expected)


@jax.jit
def both_forms(x0, t_min, fraction):
    """Both forms for VP, at independent uniform times."""
    process = VP()
    time, model = times.uniform(jax.random.key(4), N, t_min=t_min), model_of(process, fraction)
    forms = losses.continuous_elbo, losses.girsanov_bound
    return [
        form(jax.random.key(seed), model, process, x0, time, t_min=t_min)
        for seed, form in enumerate(forms)
    ]


@pytest.mark.parametrize("fraction", [1.0, WRONG])
def test_both_forms_account_for_the_range_of_times(fraction):
    """With t_min = 0.6, where 1 − t_min is far from 1."""
    t_min = 0.6
    elbo, girsanov = both_forms(data(), t_min, fraction)
    diffusion = integral("vp", fraction, t_min=t_min)
    assert_mean_close(elbo.denoising, diffusion)
    entropy = 1.5 * np.log(2 * np.pi * np.e * exact_scales("vp", np.array(t_min))[1] ** 2)
    assert_mean_close(girsanov, prior("vp") + diffusion + entropy)


def test_the_decoder_gets_the_estimate_and_the_std_at_t_min_or_the_given_one():
    x0, stds = data()[:16], (None, 0.25)

    @jax.jit
    def reconstructions(x0):
        time = times.uniform(jax.random.key(0), 16, t_min=0.2)
        model = lambda x, t: Denoised(0 * x + jnp.mean(t), x)  # noqa: E731
        bound = functools.partial(
            losses.continuous_elbo, jax.random.key(1), model, SubVP(), x0, time, t_min=0.2
        )
        decoder = lambda x0, mean, std: mean[:, 0] + 2 * x0[:, 0] + 3 * std  # noqa: E731
        return [bound(decoder=decoder, decoder_std=std).reconstruction for std in stds]

    alpha, sigma = exact_scales("subvp", np.float32(0.2))
    for found, std in zip(reconstructions(x0), (sigma / alpha, 0.25), strict=True):
        np.testing.assert_allclose(-found, 0.2 + 2 * x0[:, 0] + 3 * std, rtol=1e-4)
