"""L7: precision, recall and nearest neighbours, from the k-NN balls of two sets.

A set Φ ⊂ R^d covers the union of the balls around its points that just reach their k-th nearest
neighbour in Φ other than themselves (Kynkäänniemi et al. 2019, section 2):

    f(φ, Φ) = 1 if ‖φ − φ'‖ ≤ ‖φ' − NN_k(φ', Φ)‖ for some φ' ∈ Φ, else 0                   (1)
    precision = mean of f(φ, Φ_real) over Φ_fake: fraction of samples that are plausible     (2)
    recall    = mean of f(φ, Φ_fake) over Φ_real: fraction of the data that could be sampled (3)

Squared distances come in blocks of rows, with the rounding error of ‖a‖² + ‖b‖². Comparisons with
a radius allow for as much, and the distance to the nearest neighbour is computed again as ‖a − b‖.
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.checks import is_count
from jaxdiff.metrics.blocks import squared_distances
from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.typing import ArrayLike, InputError

ROUNDING = 1e-12
"""Relative slack of a ball: far above rounding error, far below a meaningful change of radius."""


class Balls(NamedTuple):
    """Squared radii of balls about the points of a set, and their possible error; ``[m]`` each."""

    radius: np.ndarray
    slack: np.ndarray


class PrecisionRecall(NamedTuple):
    """Fractions in [0, 1]: of samples on the data's manifold, of data on the samples' manifold."""

    precision: float
    recall: float


def precision_recall(real: ArrayLike, fake: ArrayLike, *, k: int = 3) -> PrecisionRecall:
    """Precision and recall of samples against data by k-NN manifolds (eq. 2 and 3).

    Args:
        real: data ``[n, ...]``, n > k; the events are flattened to features.
        fake: samples ``[m, ...]``, m > k, with the same number of features.
        k: the neighbour that sets the radius of a ball; 3 in the paper.

    Returns:
        ``PrecisionRecall(precision, recall)``.

    Raises:
        InputError: if k < 1, a set holds k examples or fewer or is not finite, or widths differ.

    Example:
        >>> real = np.arange(10.0)
        >>> precision_recall(real, real[:4], k=1)  # balls of radius 1: the samples cover 0 to 4
        PrecisionRecall(precision=1.0, recall=0.5)

    Reference:
        Kynkäänniemi et al. 2019, Improved precision and recall metric, section 2.
    """
    x, y = two_sets(real, fake, k)
    return PrecisionRecall(precision=_covered(y, x, k), recall=_covered(x, y, k))


def nearest_distances(x: ArrayLike, reference: ArrayLike) -> np.ndarray:
    """Euclidean distance of each example to its nearest reference: min_j ‖x_i − r_j‖.

    Compared with those of held-out data, small distances to the training set indicate memorised
    samples; an exact copy is at distance 0.

    Args:
        x: ``[n, ...]``; the events are flattened to features.
        reference: ``[m, ...]``, m ≥ 1, with the same number of features.

    Returns:
        Distances ``[n]``, float64, in units of the features.

    Raises:
        InputError: if a set is empty or not finite, or widths differ.

    Example:
        >>> nearest_distances([[0.0, 0.0], [5.0, 5.0]], [[3.0, 4.0], [5.0, 5.0]])
        array([5., 0.])
    """
    return nearest_neighbours(x, reference).distances


class Neighbours(NamedTuple):
    """Index of the nearest reference of each example, and the distance to it, both ``[n]``."""

    indices: np.ndarray
    distances: np.ndarray


def nearest_neighbours(x: ArrayLike, reference: ArrayLike) -> Neighbours:
    """The nearest reference of each example: argmin_j ‖x_i − r_j‖ and that distance.

    Args:
        x: ``[n, ...]``; the events are flattened to features.
        reference: ``[m, ...]``, m ≥ 1, with the same number of features.

    Raises:
        InputError: if a set is empty or not finite, or widths differ.

    Example:
        >>> nearest_neighbours([[0.0, 0.0], [5.0, 5.0]], [[3.0, 4.0], [5.0, 5.0]]).indices.tolist()
        [0, 1]
    """
    points, targets = as_features("x", x), as_features("reference", reference)
    check_same_width(("x", "reference"), points, targets)
    return Neighbours(*nearest(points, targets))


def two_sets(real: ArrayLike, fake: ArrayLike, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of both sets, each of more than k examples.

    Args:
        real: ``[n, ...]``, n > k.
        fake: ``[m, ...]``, m > k, with the same number of features.
        k: a positive integer.

    Raises:
        InputError: if that is not so, or a set is not finite.
    """
    if not is_count(k):
        raise InputError(f"k must be a positive integer, got {k!r}")
    x, y = as_features("real", real, at_least=k + 1), as_features("fake", fake, at_least=k + 1)
    check_same_width(("real", "fake"), x, y)
    return x, y


def nearest(
    x: np.ndarray, y: np.ndarray, *, itself: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Index of, and Euclidean distance to, the nearest point of a set.

    Args:
        x: ``[n, d]``.
        y: ``[m, d]``.
        itself: the index in ``y`` of each row of ``x``, ``[n]``, if its points are among those of
            ``y``: no point is its own neighbour.

    Returns:
        Indices ``[n]`` and distances ``[n]``.
    """
    indices, distances = [], []
    for rows, block in squared_distances(x, y, itself=itself):
        index = block.argmin(axis=1)
        indices.append(index)
        distances.append(np.linalg.norm(x[rows] - y[index], axis=1))
    return np.concatenate(indices), np.concatenate(distances)


def balls(y: np.ndarray, k: int) -> Balls:
    """The balls about the points of ``y [m, d]`` that reach their k-th nearest neighbour, k < m."""
    pairs = squared_distances(y, y, itself=np.arange(len(y)))
    radius = np.concatenate([np.partition(block, k - 1, axis=1)[:, k - 1] for _, block in pairs])
    norm = np.sum((y - y.mean(axis=0)) ** 2, axis=1)
    return Balls(radius, ROUNDING * (norm + radius))


def _covered(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """Mean of f(φ, Φ) over φ in ``x [n, d]``, Φ being ``y [m, d]`` (eq. 1)."""
    radius, slack = balls(y, k)
    reach = radius + slack  # a tie is inside, regardless of rounding
    inside = [(block <= reach).any(axis=1) for _, block in squared_distances(x, y)]
    return float(np.mean(np.concatenate(inside)))
