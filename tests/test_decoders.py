"""Decoders against scipy."""

import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from assertions import float64
from decoder_tools import discretized, in_both

from jaxdiff.losses import decoders
from jaxdiff.typing import InputError

NORMAL = scipy.stats.norm
LEVELS = (2, 17, 256)
MEANS = (-50.0, -1.2, -1.0, 0.0, 0.33, 1.0, 50.0)
STDS = (1e-3, 0.05, 0.7, 3.0)


@functools.cache
def on_every_level(num_levels, dtype):
    """Log probabilities [mean, std, level], and the library's arguments in float64 numpy."""
    levels = np.linspace(-1, 1, num_levels, dtype=dtype)
    grid = itertools.product(MEANS, STDS, levels)
    mean, std, x0 = np.array(list(grid), dtype).T
    with float64() if dtype == np.float64 else jax.enable_x64(False):
        found = discretized(num_levels)(
            *(jnp.asarray(part) for part in (x0[:, None], mean[:, None], std))
        )
    assert found.dtype == dtype
    shape = len(MEANS), len(STDS), num_levels
    return np.float64(found).reshape(shape), *(np.float64(p) for p in (x0, mean, std))


def by_hand(num_levels, x0, mean, std):
    """log [Φ(b) − Φ(a)] in scipy's float64, on the side of 0 that keeps its digits."""
    half = 1 / (num_levels - 1)
    a = np.where(x0 <= -1 + half / 2, -np.inf, (x0 - half - mean) / std)
    b = np.where(x0 >= 1 - half / 2, np.inf, (x0 + half - mean) / std)
    a, b = np.where(a > 0, -b, a), np.where(a > 0, -a, b)
    with np.errstate(divide="ignore"):
        return np.log(NORMAL.cdf(b) - NORMAL.cdf(a))


@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 1e-4), (np.float64, 1e-11)])
@pytest.mark.parametrize("num_levels", LEVELS)
def test_probabilities_of_all_levels_add_up_to_1_for_any_mean(num_levels, dtype, atol):
    found = on_every_level(num_levels, dtype)[0]
    np.testing.assert_allclose(np.exp(found).sum(axis=2), 1.0, atol=atol)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-10)])
@pytest.mark.parametrize("num_levels", LEVELS)
def test_a_level_has_the_mass_of_its_interval(num_levels, dtype, rtol):
    found, x0, mean, std = on_every_level(num_levels, dtype)
    expected = by_hand(num_levels, x0, mean, std)
    # Rounding of x_0 alone shifts (x_0 − mean)/std by up to eps/std, and log Φ by z times as much.
    z = np.abs(x0 - mean) / std
    shift = np.finfo(dtype).eps * (1 + z) * np.maximum(np.abs(mean), 1) / std
    accurate = (expected > -690) & (shift < rtol)  # scipy's probabilities lose digits below 1e-300
    assert accurate.sum() > 3 * num_levels
    found = found.ravel()[accurate]
    np.testing.assert_allclose(found, expected[accurate], rtol=rtol, atol=5 * rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-10)])
@pytest.mark.parametrize("num_levels", LEVELS)
def test_the_outermost_levels_have_the_mass_of_the_tails(num_levels, dtype, rtol):
    found, x0, mean, std = (
        np.reshape(p, (-1, num_levels)) for p in on_every_level(num_levels, dtype)
    )
    half = 1 / (num_levels - 1)
    low = NORMAL.logcdf((x0 + half - mean) / std)[:, 0]
    high = NORMAL.logsf((x0 - half - mean) / std)[:, -1]
    near = np.abs(mean[:, 0]) < 50 if dtype == np.float32 else np.isfinite(low)
    assert np.all(np.isfinite(found))
    for tail, at in ((low, 0), (high, -1)):
        np.testing.assert_allclose(found[near, at], tail[near], rtol=5 * rtol, atol=rtol)


@functools.cache
def slopes(num_levels):
    def total(mean, std, x0):
        return jnp.sum(decoders.discretized_gaussian(x0, mean, std, num_levels=num_levels))

    return jax.jit(jax.value_and_grad(total, argnums=(0, 1)))


@pytest.mark.parametrize("num_levels", LEVELS)
@pytest.mark.parametrize("away", [0.0, 1.0, 6.0, 100.0, 1e4])
def test_value_and_slopes_are_finite_at_any_distance_and_width(num_levels, away):
    levels = jnp.linspace(-1, 1, num_levels)[:, None]
    for sign, std in itertools.product((-1, 1), (1e-6, 1e-5, 1e-4, 1e-3, 0.05, 3.0)):
        for mean in (levels + sign * away * std, levels + sign):
            chex.assert_tree_all_finite(
                slopes(num_levels)(mean, jnp.full((num_levels, 1), std), levels)
            )


@pytest.mark.parametrize("std", [1e-5, 1e-4, 1e-3, 1e-2, 0.03, 0.1])
@pytest.mark.parametrize(
    ("x0", "away"), [(-1.0, 1.0), (-0.25, -1.0), (-0.25, 1.0), (0.0, -1.0), (1.0, -1.0)]
)
def test_slope_far_off_is_the_distance_to_the_nearer_edge_over_the_variance(x0, away, std):
    """d log Φ(z)/dz = φ/Φ → |z| + 1/|z| for z → −∞, at the edge on the mean's side."""
    mean = x0 + away
    (_, (by_mean, by_std)) = slopes(17)(jnp.array([[mean]]), jnp.array([[std]]), jnp.array([[x0]]))
    z = (1 - 1 / 16) / np.float64(np.float32(std))
    hazard = np.exp(NORMAL.logpdf(z) - NORMAL.logsf(z)) if z < 30 else z + 1 / z
    np.testing.assert_allclose(by_mean, [[-np.sign(away) * hazard / std]], rtol=3e-4)
    np.testing.assert_allclose(by_std, [[z * hazard / std]], rtol=3e-4)


def test_slopes_of_a_level_near_the_mean_match_those_of_its_mass():
    """∂/∂mean = [φ(a) − φ(b)]/(s P), ∂/∂s = [aφ(a) − bφ(b)]/(s P)."""
    levels, std, half = np.linspace(-1, 1, 17)[1:-1], 0.2, 1 / 16
    a, b = (levels - half - 0.1) / std, (levels + half - 0.1) / std
    mass = NORMAL.cdf(b) - NORMAL.cdf(a)
    with float64():
        x0 = jnp.asarray(levels)[:, None]
        _, (by_mean, by_std) = slopes(17)(jnp.full_like(x0, 0.1), jnp.full_like(x0, std), x0)
    expected = (NORMAL.pdf(a) - NORMAL.pdf(b)) / (std * mass)
    np.testing.assert_allclose(by_mean[:, 0], expected, rtol=1e-8)
    expected = (a * NORMAL.pdf(a) - b * NORMAL.pdf(b)) / (std * mass)
    np.testing.assert_allclose(by_std[:, 0], expected, rtol=1e-8)


def test_levels_of_another_range_have_the_same_probabilities():
    levels, mean, std = np.arange(256.0), 77.3, 12.0
    with float64():
        decoder = discretized(256, low=0.0, high=255.0)
        found = np.asarray(decoder(levels[:, None], np.full((256, 1), mean), std))
    a = np.append(-np.inf, levels[1:] - 0.5)
    b = np.append(levels[:-1] + 0.5, np.inf)
    middle = (levels > 30) & (levels < 130)
    expected = np.log((NORMAL.cdf(b, mean, std) - NORMAL.cdf(a, mean, std))[middle])
    np.testing.assert_allclose(found[middle], expected, rtol=1e-9)
    assert np.exp(found).sum() == pytest.approx(1, rel=1e-10)


RNG = np.random.default_rng(0)
PICTURES = np.linspace(-1, 1, 17)[RNG.integers(0, 17, (4, 2, 3, 1))]
ESTIMATES = RNG.uniform(-1.2, 1.2, PICTURES.shape)
EACH_STD = RNG.uniform(0.1, 1.0, PICTURES.shape)
STD_SHAPES = {
    "scalar": 0.3,
    "per_example": EACH_STD[:, 0, 0, 0],
    "per_component": EACH_STD,
}


@pytest.mark.parametrize("std", STD_SHAPES)
def test_gaussians_sum_over_events_of_any_rank_for_every_shape_of_std(std):
    std = STD_SHAPES[std]
    wide = np.broadcast_to(std.reshape(4, 1, 1, 1) if np.ndim(std) == 1 else std, PICTURES.shape)
    density = NORMAL.logpdf(PICTURES, ESTIMATES, wide).sum(axis=(1, 2, 3))
    mass = by_hand(17, PICTURES, ESTIMATES, wide).sum(axis=(1, 2, 3))
    for found, rtol in in_both(decoders.gaussian, PICTURES, ESTIMATES, std):
        np.testing.assert_allclose(found, density, rtol=rtol)
    for found, rtol in in_both(discretized(17), PICTURES, ESTIMATES, std):
        np.testing.assert_allclose(found, mass, rtol=rtol)


def test_bernoulli_is_the_log_probability_of_coins():
    truth = RNG.integers(0, 2, (4, 2, 3))
    share = RNG.uniform(0.01, 0.99, truth.shape)
    expected = np.log(np.where(truth == 1, share, 1 - share)).sum(axis=(1, 2))
    for low, high in ((-1.0, 1.0), (0.0, 1.0), (2.0, 5.0)):
        decoder = functools.partial(decoders.bernoulli, low=low, high=high)
        x0, mean = (low + part * (high - low) for part in (truth, share))
        for found, rtol in in_both(decoder, x0, mean, 0.1):
            np.testing.assert_allclose(found, expected, rtol=rtol)


def test_bernoulli_of_an_estimate_beyond_its_levels_is_clipped_at_one_in_a_million():
    x0 = np.float32([[-1.0], [1.0], [-1.0], [1.0]])
    mean = np.float32([[7.0], [-7.0], [-7.0], [7.0]])
    bernoulli = functools.partial(decoders.bernoulli, x0, std=0.0)
    found, slope = jax.jit(lambda m: (bernoulli(m), jax.jacobian(bernoulli)(m)))(mean)
    # 1 − 1e-6 in float32 has a step of 6e-8: the complement is 1e-6 to 5%.
    np.testing.assert_allclose(found, np.log([1e-6, 1e-6, 1, 1]), atol=0.06)
    chex.assert_tree_all_finite(slope)


@pytest.mark.parametrize(("num_levels", "low", "high"), [(1, -1, 1), (256, 1, -1), (256, 0, 0)])
def test_levels_that_do_not_increase_are_refused(num_levels, low, high):
    one = jnp.ones((1, 1))
    with pytest.raises(InputError, match=f"got num_levels={num_levels}, low={low}, high={high}"):
        decoders.discretized_gaussian(one, one, 1.0, num_levels=num_levels, low=low, high=high)
