"""L7: precision, recall and nearest neighbours, from the k-NN balls of two sets.

A set Φ ⊂ R^d covers the union of the balls around its points that just reach their k-th nearest
neighbour in Φ other than themselves (Kynkäänniemi et al. 2019, section 2):

    f(φ, Φ) = 1 if ‖φ − φ'‖ ≤ ‖φ' − NN_k(φ', Φ)‖ for some φ' ∈ Φ, else 0                   (1)
    precision = mean of f(φ, Φ_real) over Φ_fake: fraction of samples that are plausible     (2)
    recall    = mean of f(φ, Φ_fake) over Φ_real: fraction of the data that could be sampled (3)

Squared distances are ‖a‖² + ‖b‖² − 2⟨a, b⟩ about the mean of Φ, one matrix product per block of
rows, so that memory stays at ``BLOCK_ENTRIES`` for any sizes. The rounding error of this expansion
is that of ‖a‖² + ‖b‖²: balls are widened by as much, and the nearest distance is computed again as
‖a − b‖.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxdiff.checks import is_count
from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.typing import ArrayLike, InputError

BLOCK_ENTRIES = 2**23
"""Distances held at once: 64 MiB in float64."""

ROUNDING = 1e-12
"""Relative slack of a ball: far above rounding error, far below a meaningful change of radius."""


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
    if not is_count(k):
        raise InputError(f"k must be a positive integer, got {k!r}")
    x, y = as_features("real", real, at_least=k + 1), as_features("fake", fake, at_least=k + 1)
    check_same_width(("real", "fake"), x, y)
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
    """The nearest reference of each example, and the distance to it."""

    indices: np.ndarray
    distances: np.ndarray


def nearest_neighbours(x: ArrayLike, reference: ArrayLike) -> Neighbours:
    """The nearest reference of each example: argmin_j ‖x_i − r_j‖ and that distance.

    Args:
        x: ``[n, ...]``; the events are flattened to features.
        reference: ``[m, ...]``, m ≥ 1, with the same number of features.

    Returns:
        Indices ``[n]`` into the references, and distances ``[n]``, float64.

    Raises:
        InputError: if a set is empty or not finite, or widths differ.

    Example:
        >>> nearest_neighbours([[0.0, 0.0], [5.0, 5.0]], [[3.0, 4.0], [5.0, 5.0]]).indices.tolist()
        [0, 1]
    """
    points, targets = as_features("x", x), as_features("reference", reference)
    check_same_width(("x", "reference"), points, targets)
    nearest = np.concatenate(
        [block.argmin(axis=1) for _, block in squared_distances(points, targets)]
    )
    return Neighbours(nearest, np.linalg.norm(points - targets[nearest], axis=1))


def _covered(x: np.ndarray, y: np.ndarray, k: int) -> float:
    """Mean of f(φ, Φ) over φ in ``x [n, d]``, Φ being ``y [m, d]`` (eq. 1)."""
    radius = radii_squared(y, k)
    norm = np.sum((y - y.mean(axis=0)) ** 2, axis=1)
    reach = radius + ROUNDING * (norm + radius)  # a tie is inside, regardless of rounding
    return float(
        np.mean(np.concatenate([(b <= reach).any(axis=1) for _, b in squared_distances(x, y)]))
    )


def radii_squared(x: np.ndarray, k: int) -> np.ndarray:
    """Squared distances ``[n]`` of the points ``[n, d]`` to their k-th neighbours among them."""
    radii = []
    for rows, block in squared_distances(x, x):
        block[np.arange(len(block)), rows] = np.inf  # a point is not its own neighbour
        radii.append(np.partition(block, k - 1, axis=1)[:, k - 1])
    return np.concatenate(radii)


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield ``rows [b]`` of ``x [n, d]`` and their squared distances ``[b, m]`` to ``y [m, d]``."""
    centre = y.mean(axis=0)
    y = y - centre
    norm_y = np.sum(y**2, axis=1)
    size = max(1, BLOCK_ENTRIES // len(y))
    for start in range(0, len(x), size):
        block = x[start : start + size] - centre
        norm = np.sum(block**2, axis=1, keepdims=True)
        yield np.arange(start, start + len(block)), norm + norm_y - 2 * block @ y.T
