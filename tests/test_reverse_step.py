"""One reverse step against numpy: divergences of Gaussians, and the variances of DDPM's chain."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import float64
from known_times import at_times
from one_program import OneOf
from process_table import BETAS, PROCESSES, as_float64, exact_scales

from jaxdiff import losses, processes
from jaxdiff.losses.reverse_step import gaussian_kl
from jaxdiff.predictions import Denoised, DenoisedWithVariance

every_process = pytest.mark.parametrize("name", PROCESSES)
every_ddpm = pytest.mark.parametrize("name", BETAS)
# (t, s) inside the intervals of every chain in the table, close together and far apart.
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

log_variance = jax.jit(losses.log_variance)


def in_float64(name):
    """The row with tables never rounded to float32; call it inside ``float64``."""
    match name:
        case "ddpm_linear_1000" | "ddpm_cosine_100":
            return processes.DiscreteVP.from_betas(jnp.asarray(BETAS[name]))
        case "ncsn_232":
            return processes.DiscreteVE.from_sigmas(
                jnp.asarray(0.01 * 5000 ** (np.arange(232) / 231))
            )
    return as_float64(PROCESSES[name].process)


def expand(values):
    """[batch] -> [batch, 1, 1], and anything else unchanged."""
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


def index_of(name):
    return np.int32(list(PROCESSES).index(name))


@functools.cache
def rows(dtype):
    double = dtype == np.float64
    made = tuple((in_float64(name) if double else PROCESSES[name].process) for name in PROCESSES)
    return jax.tree.map(lambda leaf: np.asarray(leaf, dtype), made)


@jax.jit
def steps_of(process, x0, estimate, s, t, fractions):
    """Divergence and log variance of the steps with each fraction; the first also without any."""
    process = at_times(process, s, t)

    def kl(fraction):
        guess = Denoised(estimate, estimate)
        return losses.posterior_kl(process, x0, guess, s=s, t=t, variance_fraction=fraction)

    divergences = {name: kl(fraction) for name, fraction in fractions.items()} | {"none": kl(None)}
    return divergences, {
        name: losses.log_variance(process, fraction, x0, s=s, t=t)
        for name, fraction in fractions.items()
    }


@functools.cache
def found_of(name, dtype, pairs=tuple(map(tuple, PAIRS.tolist()))):
    """In either precision: (divergences, log variances) by the name of the fraction."""
    with float64() if dtype == np.float64 else jax.enable_x64(False):
        process = OneOf(index_of(name), rows(dtype))
        arguments = (np.asarray(part, dtype) for part in (X0, GUESS, *np.array(pairs).T[::-1]))
        fractions = {name: np.asarray(v, dtype) for name, v in FRACTIONS.items()}
        return jax.device_get(steps_of(process, *arguments, fractions))


@every_process
@every_fraction
def test_divergence_is_that_of_two_gaussians(name, fraction):
    expected = divergence_by_hand(name, FRACTIONS[fraction])
    np.testing.assert_allclose(found_of(name, np.float32)[0][fraction], expected, rtol=2e-4)
    found = found_of(name, np.float64)[0][fraction]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-10)


@every_process
def test_divergence_at_fraction_0_is_half_the_snr_gain_times_the_error(name):
    t, s = np.float64(PAIRS).T
    (alpha_t, sigma_t), (alpha_s, sigma_s) = exact_scales(name, t), exact_scales(name, s)
    gain = (alpha_s / sigma_s) ** 2 - (alpha_t / sigma_t) ** 2
    expected = 0.5 * gain * np.sum((np.float64(X0) - GUESS) ** 2, axis=(1, 2))
    for fraction in ("small", "none"):
        np.testing.assert_allclose(found_of(name, np.float64)[0][fraction], expected, rtol=1e-10)


def test_a_learned_variance_is_used_unless_overridden():
    @jax.jit
    def run(process, x0, guess, s, t, fractions):
        def kl(own, given):
            learned = DenoisedWithVariance(guess, guess, own)
            return losses.posterior_kl(process, x0, learned, s=s, t=t, variance_fraction=given)

        return [[kl(own, given) for given in (None, 0.7)] for own in fractions]

    own = [np.broadcast_to(expand(fraction), X0.shape) for fraction in FRACTIONS.values()]
    with float64():
        times = np.float64(PAIRS).T[::-1]
        every = run(in_float64("vp"), np.float64(X0), np.float64(GUESS), *times, own)
    for fraction, (found, overruled) in zip(FRACTIONS.values(), every, strict=True):
        np.testing.assert_allclose(found, divergence_by_hand("vp", fraction), rtol=1e-10)
        np.testing.assert_allclose(overruled, divergence_by_hand("vp", 0.7), rtol=1e-10)


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
def total_divergence(rows, guess, fraction, index, x0, s, t):
    process, estimate = OneOf(index, rows), Denoised(guess, guess)
    return jnp.sum(losses.posterior_kl(process, x0, estimate, s=s, t=t, variance_fraction=fraction))


@every_process
def test_slopes_of_the_divergence_match_those_derived_by_hand(name):
    """With e = x_0 − x̂_0 and δ = vw: −e^{−δ} ΔSNR e in x̂_0, ½w[1 − e^{−δ}(1 + ΔSNR e²)] in v."""
    t, s = np.float64(PAIRS).T
    v = FRACTIONS["per_component"]
    with float64():
        _, (_, by_guess, by_fraction) = total_divergence(
            rows(np.float64),
            np.float64(GUESS),
            v,
            index_of(name),
            np.float64(X0),
            s,
            t,
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
    v = expand(FRACTIONS[fraction])
    expected = np.broadcast_to((1 - v) * np.log(small) + v * np.log(large), X0.shape)
    for dtype, rtol in ((np.float32, 1e-4), (np.float64, 1e-10)):
        found = np.broadcast_to(found_of(name, dtype)[1][fraction], X0.shape)
        # Near log 1 = 0 rounding is absolute.
        np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol)


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
        x = np.zeros((num_steps, 1))
        found = log_variance(in_float64(name), fraction, x, s=(i - 1) / num_steps, t=i / num_steps)
        return np.broadcast_to(found, x.shape)[:, 0]


@every_ddpm
@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_variances_of_ddpm_are_beta_beta_tilde_and_their_geometric_mean(name, fraction):
    large, small = (np.log(part[1:]) for part in ddpm_variances(name))
    found = at_every_node(name, fraction)
    # 1 − ᾱ_1 of the cosine chain is 6e-4 and ᾱ itself is a rounded 1: 1e-16/6e-4 of the ratio.
    np.testing.assert_allclose(found[1:], fraction * large + (1 - fraction) * small, rtol=1e-10)


@every_ddpm
def test_the_last_step_of_ddpm_has_variance_beta_1_at_fraction_1_and_0_at_0(name):
    assert at_every_node(name, 1.0)[0] == pytest.approx(np.log(BETAS[name][0]), rel=1e-10)
    assert -80 < at_every_node(name, 0.0)[0] < np.log(1e-25)


@every_ddpm
@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_divergence_of_ddpm_is_the_distance_of_the_means_over_twice_its_variance(name, fraction):
    """Ho et al. 2020, eq. 7 and 8; with β_i for β̃_i, also the divergence of the variances."""
    large, small = ddpm_variances(name)
    alpha_bars = np.cumprod(1 - BETAS[name])
    picked = np.array([2, 3, len(large) // 2, len(large)])
    t, s = picked / len(large), (picked - 1) / len(large)
    beta, tilde = large[picked - 1], small[picked - 1]
    pulled = np.sqrt(alpha_bars[picked - 2]) * beta / (1 - alpha_bars[picked - 1])
    distance = pulled**2 * np.sum((np.float64(X0) - GUESS) ** 2, axis=(1, 2))
    ratio = tilde / beta
    expected = [distance / (2 * tilde), distance / (2 * beta) + 3 * (ratio - 1 - np.log(ratio))]
    found, _ = found_of(name, np.float64, tuple(zip(t, s, strict=True)))
    kind = {0.0: "small", 1.0: "large"}[fraction]
    np.testing.assert_allclose(found[kind], expected[int(fraction)], rtol=1e-9)


ENDS = np.float32([[1.0, 0.0], [0.5, 0.0], [1e-3, 0.0], [1.0, 0.5], [1.0, 0.999]])


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1, 2, 3), has_aux=True)
def total_log_variance(rows, fraction, s, t, index):
    value = losses.log_variance(OneOf(index, rows), fraction, jnp.zeros((5, 2)), s=s, t=t)
    return jnp.sum(value), value


@every_process
def test_log_variance_is_finite_with_finite_slopes_at_both_ends_of_time(name):
    index, (t, s) = index_of(name), ENDS.T
    for fraction in (0.0, 0.3, 1.0):
        v = np.full(5, fraction, np.float32)
        chex.assert_tree_all_finite(total_log_variance(rows(np.float32), v, s, t, index))


@pytest.mark.slow
@every_process
def test_divergence_is_finite_with_finite_slopes_from_t_1(name):
    index, (t, s) = index_of(name), PAIRS.T
    for fraction in (0.0, 1.0):
        v = np.full(X0.shape, fraction, np.float32)
        chex.assert_tree_all_finite(total_divergence(rows(np.float32), GUESS, v, index, X0, s, t))


def test_gaussian_kl_matches_its_integral_for_every_shape():
    """E_q[log q − log p], by Gauss–Hermite quadrature; means and variances broadcast."""
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

    with float64():
        every = jax.jit(lambda cases: [gaussian_kl(*case) for case in cases])(cases)
    for case, found in zip(cases, every, strict=True):
        full = [np.broadcast_to(part, (4, 3)) for part in case]
        x = full[0][..., None] + np.exp(0.5 * full[1])[..., None] * nodes
        full = [part[..., None] for part in full]
        each = log_density(x, full[0], full[1]) - log_density(x, full[2], full[3])
        expected = np.sum(each @ weights, axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-10)
