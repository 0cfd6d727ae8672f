"""L7: mean and covariance of a stream of examples, batch by batch, in float64.

Two sets of n_a and n_b examples with means a, b and scatter matrices S = Σ (x − mean)(x − mean)ᵀ
have together, with δ = b − a and n = n_a + n_b,

    mean = a + δ n_b/n,    S = S_a + S_b + δ δᵀ n_a n_b/n.

Nothing is subtracted here but means, so that a large mean costs no digits.
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.typing import ArrayLike, InputError


class Moments(NamedTuple):
    """The first two moments of n examples of d features."""

    n: int
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased covariance ``[d, d]``, which requires two examples."""
        if self.n < 2:
            raise InputError(f"moments must be of at least 2 examples, got {self.n}")
        return self.scatter / (self.n - 1)


def moments(x: ArrayLike) -> Moments:
    """Moments of one batch.

    Args:
        x: ``[n, ...]``, n ≥ 1; the events are flattened to features.

    Raises:
        InputError: if the batch is empty or not finite.

    Example:
        >>> float(moments([[1.0], [3.0]]).covariance[0, 0])
        2.0
    """
    features = as_features("x", x)
    mean = features.mean(axis=0)
    centred = features - mean
    return Moments(len(features), mean, centred.T @ centred)


def merge(a: Moments, b: Moments) -> Moments:
    """Moments of two sets together.

    Raises:
        InputError: if they have different numbers of features.

    Example:
        >>> together = merge(moments([[1.0], [3.0]]), moments([[8.0]]))
        >>> together.n, float(together.mean[0])
        (3, 4.0)

    Reference: Chan, Golub & LeVeque 1983, Algorithms for computing the sample variance, eq. 2.1.
    """
    check_same_width(("a", "b"), a.mean[None], b.mean[None])
    n, delta = a.n + b.n, b.mean - a.mean
    scatter = a.scatter + b.scatter + np.outer(delta, delta) * (a.n * b.n / n)
    return Moments(n, a.mean + delta * (b.n / n), scatter)
