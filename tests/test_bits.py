"""Bits per dimension of densities and of levels, which converge for fine levels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from assertions import float64
from decoder_tools import discretized, gaussian, in_both

from jaxdiff import losses
from jaxdiff.losses import decoders

NORMAL = scipy.stats.norm
bits_per_dim = jax.jit(losses.bits_per_dim)
FINE, FINE_STD = (257, 1025, 4097), 0.3


@functools.cache
def fine(num_levels, mean=0.1):
    """Pairs of selected levels, with their z, log probability and log density."""
    picked = np.linspace(num_levels // 4, 3 * num_levels // 4, 16).astype(int).reshape(8, 2)
    x0 = -1 + picked * 2 / (num_levels - 1)
    with float64():
        arguments = x0, np.full(x0.shape, mean), FINE_STD
        found = jax.device_get((discretized(num_levels)(*arguments), gaussian(*arguments)))
    return np.float64(picked), (x0 - mean) / FINE_STD, *found


@pytest.mark.parametrize("num_levels", FINE)
def test_levels_approach_density_times_width_at_second_order(num_levels):
    """log ∫ p = log p + log w + w² p''/(24 p) + …, p''/p = (z² − 1)/s²."""
    width, (_, z, levels, density) = 2 / (num_levels - 1), fine(num_levels)
    left = levels - density - 2 * np.log(width)
    second = np.sum(width**2 * (z**2 - 1) / (24 * FINE_STD**2), axis=1)
    np.testing.assert_allclose(left, second, atol=2 * (3 * (width / FINE_STD) ** 4 / 24 + 1e-11))


U = np.random.default_rng(1).uniform(0.5, 255.5, (5, 3, 2))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (3.0, -4.0)])
def test_bits_of_a_density_do_not_depend_on_the_range_of_the_data(low, high):
    """N(100, 30²) on the scale of the levels: −log₂ p, whatever affine range the model sees."""
    expected = -NORMAL.logpdf(U, 100, 30).mean(axis=(1, 2)) / np.log(2)
    slope = (high - low) / 255

    def bits(u):
        mean = jnp.full_like(u, low + 100 * slope)
        log_density = decoders.gaussian(low + u * slope, mean, abs(30 * slope))
        return losses.bits_per_dim(-log_density, u, to_data=lambda u: low + u * slope)

    for found, rtol in in_both(bits, U):
        np.testing.assert_allclose(found, expected, rtol=rtol)


def test_bits_of_logits_match_masked_autoregressive_flow():
    """x = logit(λ + (1 − 2λ)u/256): Papamakarios et al. 2017, appendix E.2, eq. 27 to 29.

    b = −log p(x)/(D log 2) − log₂(1 − 2λ) + 8 + (1/D) Σ [log₂ σ(x_i) + log₂(1 − σ(x_i))]
    """
    rim = 0.05
    x = scipy.special.logit(rim + (1 - 2 * rim) * U / 256)
    nats = -NORMAL.logpdf(x, 0.2, 1.3).sum(axis=(1, 2))
    bent = np.log2(scipy.special.expit(x)) + np.log2(scipy.special.expit(-x))
    expected = nats / (6 * np.log(2)) - np.log2(1 - 2 * rim) + 8 + bent.mean(axis=(1, 2))

    def to_data(u):
        return jax.scipy.special.logit(rim + (1 - 2 * rim) * u / 256)

    bits = functools.partial(losses.bits_per_dim, to_data=to_data)
    for found, rtol in in_both(bits, nats, U):
        np.testing.assert_allclose(found, expected, rtol=rtol)


def test_bits_of_a_probability_have_no_jacobian():
    """Six fair coins are one bit each; 256 levels of a uniform distribution are 8."""
    x0 = np.ones((5, 3, 2), np.float32)
    nats = -jax.jit(decoders.bernoulli)(x0, 0 * x0, 0.0)
    np.testing.assert_allclose(bits_per_dim(nats, x0), np.ones(5), rtol=1e-6)
    flat = np.full(5, 6 * np.log(256), np.float32)
    np.testing.assert_allclose(bits_per_dim(flat, np.float32(U)), 8 * np.ones(5), rtol=1e-6)


@pytest.mark.parametrize("num_levels", FINE)
def test_bits_of_the_density_agree_with_those_of_fine_levels(num_levels):
    """−log₂ P(level) = −log₂[p(x) w], up to w²(z² − 1)/(24 s² log 2) at most."""
    width, (u, _, levels, density) = 2 / (num_levels - 1), fine(num_levels)
    with float64():
        to_data = lambda u: -1 + u * width  # noqa: E731
        of_density = jax.jit(functools.partial(losses.bits_per_dim, to_data=to_data))(-density, u)
        of_levels = bits_per_dim(-levels, u)
    furthest = (0.62 / FINE_STD) ** 2 / 24 / np.log(2)
    np.testing.assert_allclose(
        of_density, of_levels, atol=(width / FINE_STD) ** 2 * furthest + 1e-10
    )


def test_bits_of_dequantised_data_bound_those_of_the_level():
    """Theis et al. 2016, eq. 3: E_u[−log₂ p(k + u)] ≥ −log₂ ∫ p; for N(m, s²) in closed form."""
    mean, std, level = 3.2, 0.9, 4.0
    u = level + (np.arange(4000) + 0.5)[:, None] / 4000
    u = np.float32(u)

    @jax.jit
    def bits(u):
        nats = -decoders.gaussian(u, jnp.full(u.shape, mean), std)
        return losses.bits_per_dim(nats, u, to_data=lambda u: u)

    found = bits(u)
    exact = 0.5 * np.log2(2 * np.pi * std**2)
    second = ((level + 1 - mean) ** 3 - (level - mean) ** 3) / 3
    exact += second / (2 * std**2) / np.log(2)
    assert np.mean(np.float64(found)) == pytest.approx(exact, rel=1e-5)
    assert exact > -np.log2(NORMAL.cdf(level + 1, mean, std) - NORMAL.cdf(level, mean, std))
