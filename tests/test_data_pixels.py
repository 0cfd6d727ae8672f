"""Bytes to floats and back."""

import numpy as np
import pytest

from jaxdiff import data
from jaxdiff.typing import InputError

BYTES = np.arange(256, dtype=np.uint8)
RANGES = [(-1.0, 1.0), (0.0, 1.0), (-0.5, 0.5), (0.0, 255.0), (0.1, 0.7), (-3.0, 10.0), (1.0, 2.0)]


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


def test_invalid_pixels_and_ranges_are_refused():
    with pytest.raises(InputError, match="pixels must be uint8, got float32"):
        data.to_floats(np.zeros(3, np.float32))
    for function in (data.to_floats, data.to_uint8):
        for wrong in ((1.0, 1.0), (0.0, np.inf), (-1e39, 0.0), (0.0, np.nan)):
            with pytest.raises(InputError, match=r"value_range must be .* with low < high, got \("):
                function(BYTES, wrong)
