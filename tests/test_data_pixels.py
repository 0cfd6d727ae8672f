"""Bytes to floats and back."""

import numpy as np
import pytest

from jaxdiff import data
from jaxdiff.data.pixels import dequantize, noise
from jaxdiff.typing import InputError

BYTES = np.arange(256, dtype=np.uint8)
RANGES = [(-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5), (0.0, 255.0), (0.1, 0.7), (-3.0, 10.0), (1.0, 2.0)]


def drawn(times):
    return noise(np.random.default_rng(0), (256 * times,))


@pytest.mark.parametrize("value_range", RANGES)
def test_to_uint8_inverts_to_floats_on_all_levels(value_range):
    x = data.to_floats(BYTES, value_range)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(data.to_uint8(x, value_range), BYTES)
    assert x[0] == np.float32(value_range[0])
    assert x[-1] == np.float32(value_range[1])
    np.testing.assert_allclose(np.diff(x), (value_range[1] - value_range[0]) / 255, rtol=1e-3)


def test_to_uint8_clips_and_rounds():
    step = 2 / 255
    x = np.array([-9.0, -1 + 0.49 * step, -1 + 0.51 * step, 1 - 0.51 * step, 9.0, np.inf])
    assert data.to_uint8(x).tolist() == [0, 0, 1, 254, 255, 255]


@pytest.mark.parametrize("value_range", RANGES)
def test_dequantised_floor_is_the_byte(value_range):
    low, high = value_range
    x = dequantize(drawn(200), np.tile(BYTES, 200), value_range).astype(np.float64)
    levels = (x - low) * 256 / (high - low)
    # Where the range is not dyadic, float32 rounds x by half a unit in its last place.
    slack = np.spacing(np.float32(max(abs(low), abs(high)))) * 256 / (high - low)
    if value_range in [(-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5)]:
        slack = 0.0
    fraction = levels - np.tile(BYTES, 200)
    assert fraction.min() >= -slack
    assert fraction.max() < 1 + slack


@pytest.mark.parametrize("byte", [0, 255])
def test_dequantisation_never_reaches_the_next_level(byte):
    ends = np.array([0, 2**16 - 1], np.uint16)
    x = dequantize(ends, np.full(2, byte, np.uint8), (0.0, 1.0))
    assert x[0] != x[1]
    np.testing.assert_array_equal(np.floor(256.0 * x.astype(np.float64)), byte)


def test_wrong_pixels_and_ranges():
    with pytest.raises(InputError, match="float32, they must be uint8"):
        data.to_floats(np.zeros(3, np.float32))
    for function in (data.to_floats, data.to_uint8):
        with pytest.raises(InputError, match=r"value_range is \(1.0, 1.0\).*low < high"):
            function(BYTES, (1.0, 1.0))


@pytest.mark.parametrize("value_range", [(-1.0, 1.0), (0.0, 1.0)])
def test_bytes_come_back_from_dequantised_floats(value_range):
    x = dequantize(drawn(50), np.tile(BYTES, 50), value_range)
    np.testing.assert_array_equal(
        data.to_uint8(x, value_range, dequantized=True), np.tile(BYTES, 50)
    )
