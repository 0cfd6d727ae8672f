"""L7: density and coverage, from the k-NN balls of the data alone.

With B_i the open ball about real example r_i that its k-th nearest neighbour among the data bounds,
and samples f_1, …, f_m (Naeem et al. 2020, section 3),

    density  = 1/(km) Σ_j Σ_i 1[f_j ∈ B_i]                                                  (1)
    coverage = 1/n Σ_i 1[f_j ∈ B_i for some j]                                              (2)

Precision asks whether a sample lies in some ball, for which one outlier of the data suffices;
density counts in how many, and may exceed 1. If data and samples have the same continuous
distribution, a real example, the n − 1 others and the m samples are exchangeable, hence

    E density = 1,    E coverage = 1 − Π_{i=1}^{k} (n − i)/(n + m − i)                       (3)

whatever the distribution and its dimension: a coverage of 0.97 is all there is at k = 5 and m = n.
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.metrics.blocks import squared_distances
from jaxdiff.metrics.neighbours import balls, two_sets
from jaxdiff.typing import ArrayLike


class DensityCoverage(NamedTuple):
    """Density ≥ 0, near 1 where the distributions are equal, and coverage in [0, 1]."""

    density: float
    coverage: float


def density_coverage(real: ArrayLike, fake: ArrayLike, *, k: int = 5) -> DensityCoverage:
    """Density and coverage of samples against data (eq. 1 and 2).

    Args:
        real: data ``[n, ...]``, n > k; the events are flattened to features.
        fake: samples ``[m, ...]``, m > k, with the same number of features.
        k: the neighbour that bounds a ball; 5 in the paper.

    Returns:
        ``DensityCoverage(density, coverage)``.

    Raises:
        InputError: if k < 1, a set holds k examples or fewer or is not finite, or widths differ.

    Example:
        >>> real = np.arange(10.0)
        >>> density_coverage(real, real[:5], k=2)  # 0 and 1 lie in the ball of 0, of radius 2
        DensityCoverage(density=0.6, coverage=0.5)

    Reference:
        Naeem et al. 2020, Reliable fidelity and diversity metrics for generative models, section 3.
    """
    x, y = two_sets(real, fake, k)
    radius, slack = balls(x, k)
    reach = radius - slack  # a tie is outside, regardless of rounding
    count, covered = 0, np.zeros(len(x), bool)
    for _, block in squared_distances(y, x):
        inside = block < reach
        count += int(np.count_nonzero(inside))
        covered |= inside.any(axis=0)
    return DensityCoverage(count / (k * len(y)), float(covered.mean()))
