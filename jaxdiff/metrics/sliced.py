"""L7: the sliced Wasserstein distance, and MIND.

On a line the squared 2-Wasserstein distance of two sets of numbers is that of their quantile
functions, which are constant between the multiples of 1/n and of 1/m; with every such interval in
the sum it is exact for any n and m:

    W₂²(x, y) = ∫₀¹ (F_x⁻¹(u) − F_y⁻¹(u))² du = Σ_l w_l (x_(i_l) − y_(j_l))²                  (1)

which for n = m is the mean of (x_(i) − y_(i))². The sliced distance is its mean over directions,

    SW₂² = E_θ W₂²(⟨θ, x⟩, ⟨θ, y⟩),  θ uniform on the unit sphere of R^d,                     (2)

estimated from a number of random directions. MIND is 3d SW₂².
"""

import numpy as np

from jaxdiff.checks import is_count
from jaxdiff.metrics.blocks import row_blocks
from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.metrics.mmd import Estimate
from jaxdiff.metrics.seeds import Seed, generator
from jaxdiff.typing import ArrayLike, InputError


def sliced_wasserstein(
    x: ArrayLike, y: ArrayLike, *, directions: int = 1000, seed: Seed
) -> Estimate:
    """Sliced 2-Wasserstein distance, squared (eq. 2).

    Args:
        x: ``[n, ...]``; the events are flattened to features.
        y: ``[m, ...]``, with the same number of features; m may differ from n.
        directions: how many random directions, at least 2.
        seed: of the directions.

    Returns:
        ``Estimate(value, std_error)`` of SW₂² between these two sets. The standard error is that
        of the random directions; those of the sets' own examples are not in it.

    Raises:
        InputError: if a set is empty or not finite, widths differ, or there is one direction.

    Example:
        >>> sliced_wasserstein([0.0, 1.0], [3.0, 4.0, 4.0, 5.0], directions=2, seed=0).value
        12.5

    Reference:
        Bonneel et al. 2015, Sliced and Radon Wasserstein barycenters of measures.
    """
    if not is_count(directions) or directions < 2:
        raise InputError(f"directions must be an integer of at least 2, got {directions!r}")
    features_x, features_y = as_features("x", x), as_features("y", y)
    check_same_width(("x", "y"), features_x, features_y)
    theta = generator(seed).normal(size=(directions, features_x.shape[1]))
    theta /= np.linalg.norm(theta, axis=1, keepdims=True)
    i, j, weights = _couplings(len(features_x), len(features_y))
    squared = np.empty(directions)
    for rows in row_blocks(directions, len(features_x) + len(features_y)):
        line_x = np.sort(theta[rows] @ features_x.T, axis=1)
        line_y = np.sort(theta[rows] @ features_y.T, axis=1)
        squared[rows] = (line_x[:, i] - line_y[:, j]) ** 2 @ weights
    return Estimate(float(squared.mean()), float(squared.std(ddof=1) / np.sqrt(directions)))


def mind(x: ArrayLike, y: ArrayLike, *, directions: int = 1000, seed: Seed) -> Estimate:
    """MIND, the Monge inception distance: 3d times the squared sliced distance (eq. 2).

    Args:
        x: ``[n, ...]``; the events are flattened to d features.
        y: ``[m, ...]``, with the same number of features. The published code keeps a random subset
            of the larger set; here both are used in full.
        directions: how many random directions; 1000 in published figures.
        seed: of the directions.

    Returns:
        ``Estimate(value, std_error)``, the error being that of the random directions.

    Raises:
        InputError: as for :func:`sliced_wasserstein`.

    Example:
        >>> mind([0.0, 1.0], [3.0, 4.0], directions=2, seed=0).value  # 3·1·3²
        27.0

    Reference:
        Berthet et al. 2026, MIND: Monge inception distance, arXiv 2605.06797.
    """
    value, std_error = sliced_wasserstein(x, y, directions=directions, seed=seed)
    scale = 3.0 * as_features("x", x).shape[1]
    return Estimate(scale * value, scale * std_error)


def _couplings(n: int, m: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ranks ``[l]`` that the optimal plan of n with m numbers couples, and their weights ``[l]``.

    In units of 1/(nm) the quantile functions jump at multiples of m and of n: whole numbers.
    """
    edges = np.union1d(np.arange(n + 1) * m, np.arange(m + 1) * n)
    return edges[:-1] // m, edges[:-1] // n, np.diff(edges) / (n * m)
