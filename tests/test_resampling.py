"""Downsampling, upsampling and filtering against StyleGAN2's upfirdn, as loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import doubled, halved, normal, rounding, smoothed

from jaxdiff.nets.resampling import BINOMIAL, BOX, check_weights, downsample, fir_filter, upsample
from jaxdiff.typing import InputError

WIDE = (1, 5, 10, 10, 5, 1)
LOPSIDED = (1, 3, 2, 2)
SIZES = {1: (6,), 2: (6, 4), 3: (2, 6, 4)}


def rounding_of(weights, axes, x):
    """A tap, a product and a sum per weight and axis; partial sums stay below 2^axes max |x|."""
    return rounding(3 * axes * len(weights), 2**axes * np.abs(x).max())


def in_one_program(x, weights):
    run = jax.jit(lambda x: (downsample(x, weights), upsample(x, weights), fir_filter(x, weights)))
    return run(jnp.asarray(x))


@pytest.mark.parametrize("axes", SIZES)
@pytest.mark.parametrize("weights", [BOX, BINOMIAL, WIDE, LOPSIDED])
def test_resampling_is_upfirdn_along_every_axis(weights, axes):
    x = normal((2, *SIZES[axes], 3))
    flipped = weights[::-1]  # ours correlates; a convolution flips
    expected = halved(x, flipped), doubled(x, flipped), smoothed(x, flipped)
    atol = rounding_of(weights, axes, x)
    for got, want in zip(in_one_program(x, weights), expected, strict=True):
        assert got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=0, atol=atol)


def test_a_box_filter_averages_pairs_and_repeats():
    x = normal((1, 4, 6, 2))
    small, large, _ = in_one_program(x, BOX)
    means = x.reshape(1, 2, 2, 3, 2, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(small, means, atol=rounding(4, np.abs(x).max()))
    np.testing.assert_array_equal(large, x.repeat(2, axis=1).repeat(2, axis=2))


def test_one_bright_pixel_becomes_the_filter():
    x = np.zeros((1, 9, 1), np.float32)
    x[0, 4] = 1.0
    _, large, _ = in_one_program(x, BINOMIAL)
    np.testing.assert_array_equal(np.ravel(large)[7:11], np.array([1, 3, 3, 1]) / 4)
    assert np.sum(np.asarray(large) != 0) == 4


@pytest.mark.parametrize("weights", [BOX, BINOMIAL, WIDE])
def test_a_constant_image_stays_constant_away_from_the_border(weights):
    x, reach = np.ones((1, 12, 12, 1), np.float32), len(weights) // 2 - 1
    small, large, smooth_ = map(np.asarray, in_one_program(x, weights))
    # of a filter's 2m weights m − 1 lie beyond the edge at the first pixel, or m for fir_filter
    for image, border in [(small, (reach + 1) // 2), (large, reach), (smooth_, reach + 1)]:
        inner = image[:, border : image.shape[1] - border, border : image.shape[2] - border]
        np.testing.assert_allclose(inner, 1.0, atol=rounding(4 * len(weights), 1))
        if border:
            assert np.all(image[:, 0] < 1 - 1e-3)
            assert np.all(image[:, :, -1] < 1 - 1e-3)


@pytest.mark.parametrize("weights", [BOX, BINOMIAL, WIDE])
def test_the_mean_is_preserved_away_from_the_border(weights):
    """Down- and upsampling preserve it; filtering preserves the sum."""
    x = np.zeros((1, 16, 16, 1), np.float32)
    x[:, 4:-4, 4:-4] = normal((1, 8, 8, 1))
    small, large, smooth_ = map(np.asarray, in_one_program(x, weights))
    atol = rounding_of(weights, 2, x)  # for every pixel, and hence for their mean
    for image in (small, large):
        np.testing.assert_allclose(image.mean(dtype=float), x.mean(dtype=float), atol=atol)
    np.testing.assert_allclose(
        smooth_.sum(dtype=float) / x.size, x.mean(dtype=float), atol=2 * atol
    )


@pytest.mark.parametrize(("weights", "axes"), [(BOX, 2), (BINOMIAL, 1), (BINOMIAL, 3), (WIDE, 2)])
def test_upsampling_is_the_adjoint_of_downsampling_times_two_per_axis(weights, axes):
    """⟨upsample(y), x⟩ = 2^axes ⟨y, downsample(x)⟩ up to the border, for symmetric weights."""
    x = normal((1, *SIZES[axes], 2))
    y = normal((1, *(side // 2 for side in SIZES[axes]), 2), seed=1)
    run = jax.jit(lambda x, y: (downsample(x, weights), upsample(y, weights)))
    small, large = (np.asarray(image, np.float64) for image in run(x, y))
    atol = rounding_of(weights, axes, y) * np.abs(x).sum()
    atol += 2**axes * rounding_of(weights, axes, x) * np.abs(y).sum()
    np.testing.assert_allclose(np.vdot(large, x), 2**axes * np.vdot(y, small), rtol=0, atol=atol)


@pytest.mark.parametrize("weights", [(), (1,), (1, 2, 1), (0, 0), (1, -1)])
def test_a_filter_of_odd_length_or_without_positive_sum_is_refused(weights):
    for refuse in (check_weights, lambda w: downsample(jnp.ones((1, 4, 1)), w)):
        with pytest.raises(InputError, match=r"even number of weights with a positive sum, got \("):
            refuse(weights)
