"""What several tests of metrics share."""

import numpy as np
import pytest

from jaxdiff.typing import InputError


def rotation(rng, dim):
    """A random orthogonal matrix."""
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def mmd_by_loops(x, y, k, estimator):
    """The squared MMD as means over pairs, of a kernel of two points."""

    def mean(a, b, *, distinct):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (distinct and i == j)]
        return np.mean([k(a[i], b[j]) for i, j in pairs])

    own = estimator == "unbiased"
    return mean(x, x, distinct=own) + mean(y, y, distinct=own) - 2 * mean(x, y, distinct=False)


def cubic(u, v):
    """KID's kernel of two points."""
    return (u @ v / len(u) + 1) ** 3


def assert_refused_in_one_line(call, message):
    """A call raises InputError with a message of one line that matches."""
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
