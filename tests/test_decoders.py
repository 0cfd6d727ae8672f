"""Decoders against scipy, and the bits per dimension that they make."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from assertions import assert_finite, float64

from jaxdiff import losses
from jaxdiff.losses import decoders
from jaxdiff.typing import InputError

NORMAL = scipy.stats.norm
LEVELS = (2, 17, 256)
MEANS = (-50.0, -1.2, -1.0, 0.0, 0.33, 1.0, 50.0)
STDS = (1e-3, 0.05, 0.7, 3.0)


gaussian, bits_per_dim = jax.jit(decoders.gaussian), jax.jit(losses.bits_per_dim)


@functools.cache
def discretized(num_levels, **levels):
    bound = functools.partial(decoders.discretized_gaussian, num_levels=num_levels, **levels)
    return jax.jit(bound)


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
    """log [Φ(b) − Φ(a)] in scipy's float64, on the side of 0 where digits are kept."""
    half = 1 / (num_levels - 1)
    a = np.where(x0 <= -1 + half / 2, -np.inf, (x0 - half - mean) / std)
    b = np.where(x0 >= 1 - half / 2, np.inf, (x0 + half - mean) / std)
    a, b = np.where(a > 0, -b, a), np.where(a > 0, -a, b)
    with np.errstate(divide="ignore"):
        return np.log(NORMAL.cdf(b) - NORMAL.cdf(a))


@pytest.mark.parametrize(("dtype", "atol"), [(np.float32, 1e-4), (np.float64, 1e-11)])
@pytest.mark.parametrize("num_levels", LEVELS)
def test_probabilities_of_all_levels_add_up_to_1_wherever_the_mean(num_levels, dtype, atol):
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
    told = (expected > -690) & (shift < rtol)  # scipy's probabilities lose digits below 1e-300
    assert told.sum() > 3 * num_levels
    found = found.ravel()[told]
    np.testing.assert_allclose(found, expected[told], rtol=rtol, atol=5 * rtol)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-4), (np.float64, 1e-10)])
@pytest.mark.parametrize("num_levels", LEVELS)
def test_the_outermost_levels_are_the_tails_however_far(num_levels, dtype, rtol):
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
def test_value_and_slopes_are_finite_however_far_and_narrow(num_levels, away):
    levels = jnp.linspace(-1, 1, num_levels)[:, None]
    for sign, std in itertools.product((-1, 1), (1e-6, 1e-5, 1e-4, 1e-3, 0.05, 3.0)):
        for mean in (levels + sign * away * std, levels + sign):
            assert_finite(slopes(num_levels)(mean, jnp.full((num_levels, 1), std), levels))


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


def test_slopes_of_a_level_near_the_mean_are_those_of_its_mass():
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


FINE, FINE_STD = (257, 1025, 4097), 0.3


@functools.cache
def fine(num_levels, mean=0.1):
    """Pairs of picked levels, their z, log probability and log density."""
    picked = np.linspace(num_levels // 4, 3 * num_levels // 4, 16).astype(int).reshape(8, 2)
    x0 = -1 + picked * 2 / (num_levels - 1)
    with float64():
        arguments = x0, np.full(x0.shape, mean), FINE_STD
        found = jax.device_get((discretized(num_levels)(*arguments), gaussian(*arguments)))
    return np.float64(picked), (x0 - mean) / FINE_STD, *found


@pytest.mark.parametrize("num_levels", FINE)
def test_fine_levels_tend_to_the_density_times_their_width_as_its_square(num_levels):
    """log ∫ p = log p + log w + w² p''/(24 p) + …, p''/p = (z² − 1)/s²."""
    width, (_, z, levels, density) = 2 / (num_levels - 1), fine(num_levels)
    left = levels - density - 2 * np.log(width)
    second = np.sum(width**2 * (z**2 - 1) / (24 * FINE_STD**2), axis=1)
    np.testing.assert_allclose(left, second, atol=2 * (3 * (width / FINE_STD) ** 4 / 24 + 1e-11))


RNG = np.random.default_rng(0)
PICTURES = np.linspace(-1, 1, 17)[RNG.integers(0, 17, (4, 2, 3, 1))]
ESTIMATES = RNG.uniform(-1.2, 1.2, PICTURES.shape)
EACH_STD = RNG.uniform(0.1, 1.0, PICTURES.shape)
STD_SHAPES = {
    "scalar": 0.3,
    "per_example": EACH_STD[:, 0, 0, 0],
    "per_component": EACH_STD,
}


def in_both(decoder, *arguments):
    """The decoder's answers in float32 and in float64, each with its tolerance."""
    decoder = jax.jit(decoder)
    yield decoder(*(np.asarray(part, np.float32) for part in arguments)), 1e-4
    with float64():
        yield decoder(*(np.asarray(part, np.float64) for part in arguments)), 1e-10


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


def test_bernoulli_of_an_estimate_beyond_its_levels_is_cut_at_one_in_a_million():
    x0 = np.float32([[-1.0], [1.0], [-1.0], [1.0]])
    mean = np.float32([[7.0], [-7.0], [-7.0], [7.0]])
    bernoulli = functools.partial(decoders.bernoulli, x0, std=0.0)
    found, slope = jax.jit(lambda m: (bernoulli(m), jax.jacobian(bernoulli)(m)))(mean)
    # 1 − 1e-6 in float32 has a step of 6e-8: the complement is 1e-6 to 5%.
    np.testing.assert_allclose(found, np.log([1e-6, 1e-6, 1, 1]), atol=0.06)
    assert_finite(slope)


@pytest.mark.parametrize(("num_levels", "low", "high"), [(1, -1, 1), (256, 1, -1), (256, 0, 0)])
def test_levels_that_do_not_increase_are_refused(num_levels, low, high):
    one = jnp.ones((1, 1))
    with pytest.raises(InputError, match=f"got {num_levels} from {low} to {high}"):
        decoders.discretized_gaussian(one, one, 1.0, num_levels=num_levels, low=low, high=high)


U = RNG.uniform(0.5, 255.5, (5, 3, 2))


@pytest.mark.parametrize(("low", "high"), [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (3.0, -4.0)])
def test_bits_of_a_density_do_not_depend_on_the_range_of_the_data(low, high):
    """N(100, 30²) on the scale of the levels: −log₂ p, whatever affine picture the model sees."""
    expected = -NORMAL.logpdf(U, 100, 30).mean(axis=(1, 2)) / np.log(2)
    slope = (high - low) / 255

    def bits(u):
        mean = jnp.full_like(u, low + 100 * slope)
        log_density = decoders.gaussian(low + u * slope, mean, abs(30 * slope))
        return losses.bits_per_dim(-log_density, u, to_data=lambda u: low + u * slope)

    for found, rtol in in_both(bits, U):
        np.testing.assert_allclose(found, expected, rtol=rtol)


def test_bits_of_logits_are_those_of_masked_autoregressive_flow():
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
    """Six coins of one half are one bit each; 256 levels of a flat law are 8."""
    x0 = np.ones((5, 3, 2), np.float32)
    nats = -jax.jit(decoders.bernoulli)(x0, 0 * x0, 0.0)
    np.testing.assert_allclose(bits_per_dim(nats, x0), np.ones(5), rtol=1e-6)
    flat = np.full(5, 6 * np.log(256), np.float32)
    np.testing.assert_allclose(bits_per_dim(flat, np.float32(U)), 8 * np.ones(5), rtol=1e-6)


@pytest.mark.parametrize("num_levels", FINE)
def test_bits_of_the_density_meet_those_of_fine_levels(num_levels):
    """−log₂ P(level) = −log₂[p(x) w]: apart by w²(z² − 1)/(24 s² log 2) at most."""
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
