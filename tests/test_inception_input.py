"""Images resized for Inception: against closed forms, loops over pixels, and Pillow."""

import numpy as np
import pytest
from PIL import Image

from jaxdiff.data.inception_input import INCEPTION_RESIZES, SIDE, inception_input
from jaxdiff.typing import InputError

LEGACY = ("legacy_pytorch", "legacy_tensorflow")
OFFSET = {"legacy_pytorch": 0.5, "legacy_tensorflow": 0.0}
RNG = np.random.default_rng(0)


def levels(x, resize):
    """The numbers before scaling, in [0, 255]."""
    x = np.asarray(x, np.float64)
    return (x + 1) * 127.5 if resize == "legacy_pytorch" else 128 * x + 128


def bilinear(image, resize):
    """One channel ``[h, w]``, pixel by pixel in float64."""

    def neighbours(i, size):
        u = max(0.0, (i + OFFSET[resize]) * size / SIDE - OFFSET[resize])
        low = int(np.floor(u))
        return low, min(low + 1, size - 1), u - low

    out = np.empty((SIDE, SIDE))
    for i, j in np.ndindex(SIDE, SIDE):
        top, bottom, v = neighbours(i, image.shape[0])
        left, right, u = neighbours(j, image.shape[1])
        above = (1 - u) * image[top, left] + u * image[top, right]
        below = (1 - u) * image[bottom, left] + u * image[bottom, right]
        out[i, j] = (1 - v) * above + v * below
    return out


@pytest.mark.parametrize("resize", LEGACY)
@pytest.mark.parametrize("shape", [(5, 3), (401, 300)])  # larger, smaller
def test_legacy_resizing_matches_a_loop_over_pixels(resize, shape):
    image = RNG.integers(0, 256, size=shape, dtype=np.uint8)
    got = levels(inception_input(image[None, ..., None], resize), resize)
    expected = bilinear(image.astype(np.float64), resize)
    atol = 2 * 255 * max(shape) * 2.0**-23  # positions are float32, as in both systems
    for channel in range(3):
        np.testing.assert_allclose(got[0, ..., channel], expected, rtol=0, atol=atol)


@pytest.mark.parametrize("resize", INCEPTION_RESIZES)
def test_an_image_of_the_right_size_is_only_scaled(resize):
    images = RNG.integers(0, 256, size=(2, SIDE, SIDE, 3), dtype=np.uint8)
    got = inception_input(images, resize)
    assert got.dtype == np.float32
    np.testing.assert_allclose(levels(got, resize), images, rtol=0, atol=2e-5)


def test_how_bytes_are_scaled():
    """PyTorch's port maps 255 to 1, TensorFlow's network to 127/128."""
    images = np.array([0, 128, 255], np.uint8).reshape(3, 1, 1, 1)
    for resize, expected in {
        "clean": (-1, 0, 127 / 128),
        "legacy_tensorflow": (-1, 0, 127 / 128),
        "legacy_pytorch": (-1, 1 / 255, 1),
    }.items():
        got = inception_input(images, resize)
        wide = np.broadcast_to(np.reshape(expected, (3, 1, 1, 1)), (3, SIDE, SIDE, 3))
        np.testing.assert_allclose(got, wide, rtol=0, atol=1e-6)


@pytest.mark.parametrize("resize", INCEPTION_RESIZES)
@pytest.mark.parametrize("size", [31, 64])
def test_a_ramp_stays_a_ramp_where_it_does_not_end(resize, size):
    """Pixel i of 0, 1, 2, … is at (i + o)·n/299 − o: o = 0 for TensorFlow 1, ½ for the others."""
    ramp = np.broadcast_to(np.arange(size, dtype=np.uint8)[:, None, None], (size, size, 1))
    got = levels(inception_input(ramp[None], resize), resize)[0, :, 7, 0]
    offset = OFFSET.get(resize, 0.5)
    at = (np.arange(SIDE) + offset) * size / SIDE - offset
    inside = (at >= 2) & (at <= size - 3)  # the cubic filter spans two pixels
    np.testing.assert_allclose(got[inside], at[inside], rtol=0, atol=1e-3)
    assert inside.sum() > 200


def test_two_pixels_by_hand():
    """The output's middle is the mean of both in PyTorch; TensorFlow 1 is at 2·149/299 there."""
    images = np.array([0, 100], np.uint8).reshape(1, 1, 2, 1)
    pytorch, tensorflow = (levels(inception_input(images, how), how)[0, 0, :, 0] for how in LEGACY)
    assert pytorch[149] == pytest.approx(50, abs=1e-4)
    assert tensorflow[149] == pytest.approx(100 * 298 / 299, abs=1e-4)
    np.testing.assert_allclose(pytorch + pytorch[::-1], 100, atol=1e-4)  # symmetric
    np.testing.assert_allclose(tensorflow[150:], 100, atol=1e-4)  # half of it is the last pixel


@pytest.mark.parametrize("shape", [(2, 5, 9, 3), (1, 320, 310, 3), (2, 6, 6, 1)])
def test_clean_resizing_is_pillows_of_each_channel_in_floats(shape):
    images = RNG.integers(0, 256, size=shape, dtype=np.uint8)
    got = levels(inception_input(images, "clean"), "clean")
    for i, c in np.ndindex(shape[0], 3):
        plane = images[i, ..., min(c, shape[-1] - 1)].astype(np.float32)
        expected = np.asarray(Image.fromarray(plane).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        np.testing.assert_allclose(got[i, ..., c], expected, rtol=0, atol=1e-4)


def test_clean_resizing_overshoots_and_does_not_round():
    """A cubic filter rings at an edge: 8-bit resizing would clip this to [0, 255]."""
    image = np.zeros((1, 8, 8, 3), np.uint8)
    image[:, :, 4:] = 255
    got = levels(inception_input(image, "clean"), "clean")
    assert got.min() < -10
    assert got.max() > 265
    assert np.abs(got - np.rint(got)).max() > 0.4


def test_clean_resizing_averages_where_the_others_alias():
    checkers = np.indices((2 * SIDE, 2 * SIDE)).sum(0) % 2 * np.uint8(200)
    images = checkers.astype(np.uint8)[None, ..., None]
    inner = slice(4, -4)
    clean = levels(inception_input(images, "clean"), "clean")[0, inner, inner]
    np.testing.assert_allclose(clean, 100, atol=0.5)
    aliased = levels(inception_input(images, "legacy_tensorflow"), "legacy_tensorflow")
    np.testing.assert_allclose(aliased, 0, atol=1e-4)  # every second pixel, all of one colour


@pytest.mark.parametrize("resize", INCEPTION_RESIZES)
def test_grey_is_repeated_and_images_are_independent(resize):
    images = RNG.integers(0, 256, size=(3, 7, 4, 1), dtype=np.uint8)
    grey = inception_input(images, resize)
    np.testing.assert_array_equal(grey, inception_input(np.repeat(images, 3, -1), resize))
    np.testing.assert_array_equal(grey[2:], inception_input(images[2:], resize))


@pytest.mark.parametrize(
    ("images", "resize", "message"),
    [
        (np.zeros((1, 4, 4, 3)), "clean", "images must be uint8, got float64$"),
        (
            np.zeros((4, 4, 3), np.uint8),
            "clean",
            r"images must have a nonempty shape .*, got \(4, 4, 3\)$",
        ),
        (np.zeros((1, 4, 4, 4), np.uint8), "clean", r"\[n, h, w, 1 or 3\], got \(1, 4, 4, 4\)$"),
        (
            np.zeros((0, 4, 4, 3), np.uint8),
            "clean",
            r"images must have a nonempty shape .*, got \(0, 4, 4, 3",
        ),
        (
            np.zeros((1, 4, 0, 3), np.uint8),
            "clean",
            r"images must have a nonempty shape .*, got \(1, 4, 0, 3",
        ),
        (np.zeros((1, 4, 4, 3), np.uint8), "cleen", "resize must be one of .*; did you mean 'cle"),
    ],
)
def test_invalid_images_are_refused_in_one_line(images, resize, message):
    with pytest.raises(InputError, match=message) as error:
        inception_input(images, resize)
    assert "\n" not in str(error.value)
