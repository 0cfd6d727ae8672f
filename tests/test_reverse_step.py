"""One reverse step against numpy: divergences of Gaussians, and the variances of DDPM's chain."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import BETAS, PROCESSES, as_float64, assert_finite, exact_scales, float64

from jaxdiff import losses, processes
from jaxdiff.losses.reverse_step import gaussian_kl
from jaxdiff.predictions import Denoised, DenoisedWithVariance

every_process = pytest.mark.parametrize("name", PROCESSES)
every_ddpm = pytest.mark.parametrize("name", BETAS)
# (t, s) inside the intervals of every chain in the table, near each other and far apart.
PAIRS = np.float32([[1.0, 0.6213], [0.8887, 0.8711], [0.3711, 0.1237], [0.1237, 0.0537]])
BATCH, EVENT = len(PAIRS), (2, 3)
FRACTIONS = {
    "small": 0.0,
    "between": 0.3,
    "large": 1.0,
    "per_example": np.linspace(-0.2, 1.2, BATCH),
    "per_component": np.random.default_rng(3).uniform(0, 1, (BATCH, *EVENT)),
}
every_fraction = pytest.mark.parametrize("fraction", FRACTIONS)
RNG = np.random.default_rng(0)
X0, GUESS, X_T = np.float32(RNG.standard_normal((3, BATCH, *EVENT)))

kl = jax.jit(losses.posterior_kl)
log_variance = jax.jit(losses.log_variance)


def in_float64(name):
    """The row with tables that were never rounded to float32; call it inside ``float64``."""
    match name:
        case "ddpm_linear_1000" | "ddpm_cosine_100":
            return processes.DiscreteVP.from_betas(jnp.asarray(BETAS[name]))
        case "ncsn_232":
            return processes.DiscreteVE.from_sigmas(
                jnp.asarray(0.01 * 5000 ** (np.arange(232) / 231))
            )
    return as_float64(PROCESSES[name])


def expand(values):
    """[batch] -> [batch, 1, 1], and anything else as it is."""
    values = np.asarray(values, np.float64)
    return values.reshape(-1, 1, 1) if values.ndim == 1 else values


def steps(name, t, s):
    """(α_s σ²_ts/σ_t², σ_s²σ²_ts/σ_t², σ²_ts, kept), [batch, 1, 1], with β = σ²_ts, in numpy."""
    (alpha_t, sigma_t), (alpha_s, sigma_s) = exact_scales(name, t), exact_scales(name, s)
    scale = alpha_t / alpha_s
    large = sigma_t**2 - (scale * sigma_s) ** 2
    pulled, kept = alpha_s * large / sigma_t**2, scale * sigma_s**2 / sigma_t**2
    small = sigma_s**2 * large / sigma_t**2
    return tuple(expand(part) for part in (pulled, small, large, kept))


def divergence_by_hand(name, fraction):
    """KL(q(x_s|x_t, x_0) ‖ p(x_s|x_t)) from the means and the variances themselves."""
    t, s = np.float64(PAIRS).T
    pulled, small, large, kept = steps(name, t, s)
    mean_q, mean_p = (kept * np.float64(X_T) + pulled * np.float64(x) for x in (X0, GUESS))
    v = expand(fraction)
    variance = small ** (1 - v) * large**v
    each = np.log(variance / small) + (small + (mean_q - mean_p) ** 2) / variance - 1
    return 0.5 * np.sum(each, axis=(1, 2))


def call(name, fraction, dtype, guess=None):
    process = in_float64(name) if dtype == np.float64 else PROCESSES[name]
    x0, estimate = jnp.asarray(X0, dtype), jnp.asarray(GUESS, dtype)
    guess = Denoised(estimate, estimate) if guess is None else guess(estimate)
    t, s = jnp.asarray(PAIRS.T, dtype)
    if fraction is not None:
        fraction = jnp.asarray(fraction, dtype)
    return kl(process, x0, guess, s=s, t=t, variance_fraction=fraction)


@every_process
@every_fraction
def test_divergence_is_that_of_two_gaussians(name, fraction):
    expected = divergence_by_hand(name, FRACTIONS[fraction])
    np.testing.assert_allclose(call(name, FRACTIONS[fraction], np.float32), expected, rtol=2e-4)
    with float64():
        found = call(name, FRACTIONS[fraction], np.float64)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@every_process
def test_divergence_at_fraction_0_is_half_the_gain_of_snr_times_the_error(name):
    t, s = np.float64(PAIRS).T
    (alpha_t, sigma_t), (alpha_s, sigma_s) = exact_scales(name, t), exact_scales(name, s)
    gain = (alpha_s / sigma_s) ** 2 - (alpha_t / sigma_t) ** 2
    expected = 0.5 * gain * np.sum((np.float64(X0) - GUESS) ** 2, axis=(1, 2))
    with float64():
        for fraction in (0.0, None):
            np.testing.assert_allclose(call(name, fraction, np.float64), expected, rtol=1e-10)


@every_fraction
def test_a_learned_variance_is_the_one_given_and_gives_way_to_the_one_asked_for(fraction):
    def learned(guess):
        own = jnp.broadcast_to(jnp.asarray(expand(FRACTIONS[fraction])), guess.shape)
        return DenoisedWithVariance(guess, guess, own)

    with float64():
        found = call("vp", None, np.float64, learned)
        overruled = call("vp", 0.7, np.float64, learned)
    expected = divergence_by_hand("vp", FRACTIONS[fraction])
    np.testing.assert_allclose(found, expected, rtol=1e-10)
    np.testing.assert_allclose(overruled, divergence_by_hand("vp", 0.7), rtol=1e-10)


@every_process
def test_slopes_of_the_divergence_are_those_derived_by_hand(name):
    """With e = x_0 − x̂_0 and δ = vw: −e^{−δ} ΔSNR e in x̂_0, ½w[1 − e^{−δ}(1 + ΔSNR e²)] in v."""
    t, s = np.float64(PAIRS).T
    v = FRACTIONS["per_component"]

    def total(guess, fraction):
        return jnp.sum(call(name, fraction, np.float64, lambda _: Denoised(guess, guess)))

    with float64():
        by_guess, by_fraction = jax.grad(total, argnums=(0, 1))(
            jnp.asarray(GUESS, jnp.float64), jnp.asarray(v)
        )
    pulled, small, large, _ = steps(name, t, s)
    widest, missed, gain = np.log(large / small), np.float64(X0) - GUESS, pulled**2 / small
    shrunk = (small / large) ** v
    np.testing.assert_allclose(by_guess, -shrunk * gain * missed, rtol=1e-9)
    expected = 0.5 * widest * (1 - shrunk * (1 + gain * missed**2))
    np.testing.assert_allclose(by_fraction, expected, rtol=1e-8, atol=1e-10)


@every_process
@every_fraction
def test_log_variance_lies_between_the_posterior_and_the_transition(name, fraction):
    t, s = np.float64(PAIRS).T
    _, small, large, _ = steps(name, t, s)
    v = FRACTIONS[fraction]
    expected = (1 - expand(v)) * np.log(small) + expand(v) * np.log(large)
    for dtype, rtol in ((np.float32, 1e-4), (np.float64, 1e-10)):
        with float64() if dtype == np.float64 else jax.enable_x64(False):
            process = in_float64(name) if dtype == np.float64 else PROCESSES[name]
            found = log_variance(
                process,
                jnp.asarray(v, dtype),
                jnp.asarray(X0, dtype),
                s=jnp.asarray(s, dtype),
                t=jnp.asarray(t, dtype),
            )
            found = np.asarray(found) + np.zeros(X0.shape)
        # Near log 1 = 0 rounding is absolute.
        np.testing.assert_allclose(found, expected + np.zeros(X0.shape), rtol=rtol, atol=rtol)


@functools.cache
def ddpm_variances(name):
    """β_i, and β̃_i = (1 − ᾱ_{i−1})/(1 − ᾱ_i) β_i, [T]: Ho et al. 2020, eq. 7."""
    betas = BETAS[name]
    alpha_bars = np.cumprod(1 - betas)
    before = np.append(1.0, alpha_bars[:-1])
    return betas, (1 - before) / (1 - alpha_bars) * betas


def at_every_node(name, fraction):
    """Log variances of the whole chain, [T], in float64."""
    num_steps = len(BETAS[name])
    i = np.arange(1, num_steps + 1)
    with float64():
        x = jnp.zeros((num_steps, 1))
        found = log_variance(
            in_float64(name),
            jnp.asarray(fraction, jnp.float64),
            x,
            s=jnp.asarray((i - 1) / num_steps),
            t=jnp.asarray(i / num_steps),
        )
        return np.broadcast_to(found, x.shape)[:, 0]


@every_ddpm
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_variances_of_ddpm_are_beta_beta_tilde_and_nichols_mean_of_their_logarithms(name, fraction):
    large, small = (np.log(part[1:]) for part in ddpm_variances(name))
    found = at_every_node(name, fraction)
    # 1 − ᾱ_1 of the cosine chain is 6e-4 and ᾱ itself is a rounded 1: 1e-16/6e-4 of the ratio.
    np.testing.assert_allclose(found[1:], fraction * large + (1 - fraction) * small, rtol=1e-10)


@every_ddpm
def test_the_last_step_of_ddpm_has_beta_1_at_fraction_1_and_no_width_at_0(name):
    assert at_every_node(name, 1.0)[0] == pytest.approx(np.log(BETAS[name][0]), rel=1e-10)
    assert -80 < at_every_node(name, 0.0)[0] < np.log(1e-25)


@every_ddpm
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_divergence_of_ddpm_is_the_distance_of_the_means_over_twice_its_variance(name, fraction):
    """Ho et al. 2020, eq. 7 and 8; with β_i for β̃_i, the divergence of the widths as well."""
    large, small = ddpm_variances(name)
    alpha_bars = np.cumprod(1 - BETAS[name])
    picked = np.array([2, 3, len(large) // 2, len(large)])
    t, s = picked / len(large), (picked - 1) / len(large)
    beta, tilde = large[picked - 1], small[picked - 1]
    pulled = np.sqrt(alpha_bars[picked - 2]) * beta / (1 - alpha_bars[picked - 1])
    distance = pulled**2 * np.sum((np.float64(X0) - GUESS) ** 2, axis=(1, 2))
    ratio = tilde / beta
    expected = [distance / (2 * tilde), distance / (2 * beta) + 3 * (ratio - 1 - np.log(ratio))]
    with float64():
        guess = jnp.asarray(GUESS, jnp.float64)
        found = kl(
            in_float64(name),
            jnp.asarray(X0, jnp.float64),
            Denoised(guess, guess),
            s=jnp.asarray(s),
            t=jnp.asarray(t),
            variance_fraction=jnp.float64(fraction),
        )
    np.testing.assert_allclose(found, expected[int(fraction)], rtol=1e-9)


ENDS = np.float32([[1.0, 0.0], [0.5, 0.0], [1e-3, 0.0], [1.0, 0.5], [1.0, 0.999]])


@jax.jit
def log_variance_and_slopes(process, fraction, s, t):
    def total(process, fraction, s, t):
        return jnp.sum(losses.log_variance(process, fraction, jnp.zeros((5, 2)), s=s, t=t))

    value = losses.log_variance(process, fraction, jnp.zeros((5, 2)), s=s, t=t)
    return value, jax.grad(total, argnums=(0, 1, 2, 3))(process, fraction, s, t)


@every_process
def test_log_variance_is_finite_with_finite_slopes_at_both_ends_of_time(name):
    process = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PROCESSES[name])
    t, s = jnp.asarray(ENDS.T)
    for fraction in (0.0, 0.3, 1.0):
        assert_finite(log_variance_and_slopes(process, jnp.full(5, fraction), s, t))


@every_process
def test_divergence_is_finite_with_finite_slopes_from_t_1(name):
    process = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), PROCESSES[name])
    t, s = jnp.asarray(PAIRS.T)

    def total(process, guess, fraction):
        return jnp.sum(
            losses.posterior_kl(
                process,
                jnp.asarray(X0),
                Denoised(guess, guess),
                s=s,
                t=t,
                variance_fraction=fraction,
            )
        )

    for fraction in (0.0, 1.0):
        fractions = jnp.full(X0.shape, fraction)
        assert_finite(
            jax.value_and_grad(total, argnums=(0, 1, 2))(process, jnp.asarray(GUESS), fractions)
        )


def test_gaussian_kl_is_its_integral_over_every_shape_it_takes():
    """E_q[log q − log p], by Gauss and Hermite; the means and variances broadcast."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    weights = weights / weights.sum()
    mean_q, mean_p = np.random.default_rng(0).standard_normal((2, 4, 3))
    log_q, log_p = np.random.default_rng(1).uniform(-2, 2, (2, 4, 3))
    cases = [
        (mean_q, log_q, mean_p, log_p),
        (mean_q, np.array(0.3), 0.0, np.array(-0.7)),
        (mean_q, np.array(0.3), mean_p, log_p),
        (mean_q, log_q, mean_p, np.array(0.5)),
    ]

    def log_density(x, mean, log_variance):
        return -0.5 * (log_variance + (x - mean) ** 2 * np.exp(-log_variance))

    for case in cases:
        full = [np.broadcast_to(part, (4, 3)) for part in case]
        x = full[0][..., None] + np.exp(0.5 * full[1])[..., None] * nodes
        full = [part[..., None] for part in full]
        each = log_density(x, full[0], full[1]) - log_density(x, full[2], full[3])
        expected = np.sum(each @ weights, axis=1)
        with float64():
            found = gaussian_kl(*(jnp.asarray(part, jnp.float64) for part in case))
        np.testing.assert_allclose(found, expected, rtol=1e-10)
