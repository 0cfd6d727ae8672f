"""L7: density and coverage, and the fraction of samples that are not copies.

With the ball B_i around each real example r_i that just reaches its k-th nearest real neighbour
(Naeem et al. 2020, eq. 5 and 6), and M samples f_j,

    density  = 1/(kM) Σ_j Σ_i 1[f_j ∈ B_i]                                                  (1)
    coverage = mean over i of 1[some f_j ∈ B_i]                                             (2)

Density counts how many balls a sample is in, so that one outlier among the data does not make
everything near it plausible, as it does for precision; it may exceed 1.
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.checks import is_count
from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.metrics.neighbours import nearest_neighbours, radii_squared, squared_distances
from jaxdiff.typing import ArrayLike, InputError


class DensityCoverage(NamedTuple):
    """Mean number of balls around a sample over k, and the fraction of balls with a sample."""

    density: float
    coverage: float


def density_coverage(real: ArrayLike, fake: ArrayLike, *, k: int = 5) -> DensityCoverage:
    """Density and coverage of samples against data (eq. 1 and 2).

    Args:
        real: data ``[n, ...]``, n > k; the events are flattened to features.
        fake: samples ``[m, ...]``, with the same number of features.
        k: the neighbour that sets the radius of a ball; 5 in the paper.

    Returns:
        ``DensityCoverage(density, coverage)``.

    Raises:
        InputError: if k < 1, a set is too small or not finite, or widths differ.

    Example:
        >>> real = np.arange(10.0)
        >>> density_coverage(real, [[0.5], [100.0]], k=1)  # 0.5 is in the balls around 0 and 1
        DensityCoverage(density=1.0, coverage=0.2)

    Reference: Naeem et al. 2020, Reliable fidelity and diversity metrics, eq. 5 and 6.
    """
    if not is_count(k):
        raise InputError(f"k must be a positive integer, got {k!r}")
    x, y = as_features("real", real, at_least=k + 1), as_features("fake", fake)
    check_same_width(("real", "fake"), x, y)
    radius, inside, covered = radii_squared(x, k), 0, np.zeros(len(x), bool)
    for _, block in squared_distances(y, x):
        within = block < radius
        inside += int(within.sum())
        covered |= within.any(axis=0)
    return DensityCoverage(inside / (k * len(y)), float(covered.mean()))


def authentic_fraction(train: ArrayLike, fake: ArrayLike) -> float:
    """Fraction of samples that are not closer to a training example than another one is (AuthPct).

    A sample f whose nearest training example is r counts as a copy if ‖f − r‖ is less than the
    distance of r to its own nearest training neighbour.

    Args:
        train: training examples ``[n, ...]``, n ≥ 2.
        fake: samples ``[m, ...]``, with the same number of features.

    Returns:
        A fraction in [0, 1]; the published percentage is 100 times it.

    Raises:
        InputError: if a set is too small or not finite, or widths differ.

    Example:
        >>> authentic_fraction([[0.0], [1.0], [5.0]], [[0.1], [3.0]])  # 0.1 copies 0, 3 is nobody's
        0.5

    Reference: Alaa et al. 2022, How faithful is your synthetic data?, section 3.
    """
    x = as_features("train", train, at_least=2)
    found = nearest_neighbours(as_features("fake", fake), x)
    radius = np.sqrt(np.maximum(radii_squared(x, 1), 0.0))
    return float(np.mean(found.distances >= radius[found.indices]))
