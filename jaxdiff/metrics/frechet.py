"""L7: the Fréchet distance between two Gaussians, and between two sets of examples.

The squared 2-Wasserstein distance of N(μx, Cx) and N(μy, Cy) (Dowson & Landau 1982) is

    d² = ‖μx − μy‖² + tr(Cx + Cy − 2 (Cx^½ Cy Cx^½)^½).                                    (1)

With A = Cx^½ and B = Cy^½, the last root is ((AB)(AB)ᵀ)^½, whose trace is the sum of the singular
values of AB, its nuclear norm:

    d² = ‖μx − μy‖² + tr Cx + tr Cy − 2 ‖Cx^½ Cy^½‖_*.                                     (2)

(2) is computed here. Taking roots of the eigenvalues of Cx^½ Cy Cx^½ instead would turn a rounding
error of 1e-16 in a null direction into 1e-8, and ``sqrtm(Cx Cy)`` fails on singular matrices, which
always result from fewer examples than features.
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.checks import finite_array
from jaxdiff.metrics.features import check_same_width
from jaxdiff.metrics.moments import Moments, as_moments
from jaxdiff.typing import ArrayLike, InputError

SYMMETRY_TOLERANCE = 1e-5
"""Asymmetry and negative eigenvalues, relative to the largest, that count as float32 rounding."""


class Gaussian(NamedTuple):
    """A Gaussian with what its distances need: the trace and the root of its covariance."""

    mean: np.ndarray
    trace: float
    root: np.ndarray


def frechet_distance(x: ArrayLike | Moments, y: ArrayLike | Moments) -> float:
    """Fit a Gaussian to each set and return their Fréchet distance (eq. 1), which is squared.

    FID (Heusel et al. 2017) is this number for the 2048 pool features of Inception-v3, and sFID for
    its :func:`~jaxdiff.metrics.spatial_features`. Covariances are unbiased (ddof 1). The estimate
    is biased upward, more so for fewer examples: compare figures only at equal n and m.

    Args:
        x: ``[n, ...]``, n ≥ 2, whose events are flattened to features; or the set's ``Moments``.
        y: ``[m, ...]``, m ≥ 2, with the same number of features; or the set's ``Moments``.

    Returns:
        d² ≥ 0, in squared units of the features.

    Raises:
        InputError: if a set is not finite, holds fewer than 2 examples, or their widths differ.

    Example:
        >>> x = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
        >>> round(frechet_distance(x, x + np.array([3.0, 4.0])), 6)
        25.0

    Reference:
        Heusel et al. 2017, GANs trained by a two time-scale update rule, eq. 6.
    """
    moments_x, moments_y = as_moments("x", x), as_moments("y", y)
    check_same_width(("x", "y"), moments_x.scatter, moments_y.scatter)
    return distance_between(fitted("x", moments_x), fitted("y", moments_y))


def frechet_from_moments(
    mean_x: ArrayLike, cov_x: ArrayLike, mean_y: ArrayLike, cov_y: ArrayLike
) -> float:
    """Fréchet distance of two Gaussians from their moments (eq. 1); covariances may be singular.

    Args:
        mean_x: ``[d]``.
        cov_x: ``[d, d]``, symmetric and positive semidefinite.
        mean_y: ``[d]``.
        cov_y: ``[d, d]``, symmetric and positive semidefinite.

    Returns:
        d² ≥ 0.

    Raises:
        InputError: if shapes differ, values are not finite, or a matrix is not a covariance.

    Example:
        >>> frechet_from_moments([0.0], [[4.0]], [1.0], [[9.0]])  # (μx − μy)² + (σx − σy)²
        2.0

    Reference:
        Dowson & Landau 1982, The Fréchet distance between multivariate normal distributions.
    """
    mu_x, mu_y = finite_array("mean_x", mean_x), finite_array("mean_y", mean_y)
    if mu_x.ndim != 1 or mu_x.shape != mu_y.shape:
        raise InputError(
            "mean_x and mean_y must be vectors of the same length, got shapes "
            f"{mu_x.shape} and {mu_y.shape}"
        )
    return distance_between(_gaussian("cov_x", mu_x, cov_x), _gaussian("cov_y", mu_y, cov_y))


def fitted(name: str, values: Moments) -> Gaussian:
    """The Gaussian of a set's mean and unbiased covariance.

    Args:
        name: the name of the set, for the error.
        values: of at least 2 examples.

    Raises:
        InputError: if the covariance is not one.
    """
    return _gaussian(f"the covariance of {name}", values.mean, values.covariance())


def distance_between(x: Gaussian, y: Gaussian) -> float:
    """Fréchet distance of two Gaussians of the same dimension (eq. 2).

    Args:
        x: a Gaussian.
        y: another, whose root may serve many distances.

    Returns:
        d² ≥ 0.
    """
    overlap = np.linalg.svd(x.root @ y.root, compute_uv=False).sum()
    distance = np.sum((x.mean - y.mean) ** 2) + x.trace + y.trace - 2 * overlap
    return max(float(distance), 0.0)


def _gaussian(name: str, mean: np.ndarray, cov: ArrayLike) -> Gaussian:
    matrix = _covariance(name, cov, len(mean))
    return Gaussian(mean, float(np.trace(matrix)), _root(name, matrix))


def _covariance(name: str, cov: ArrayLike, dim: int) -> np.ndarray:
    matrix = finite_array(name, cov)
    if matrix.shape != (dim, dim):
        raise InputError(
            f"{name} must have shape {(dim, dim)} to match the means, got shape {matrix.shape}"
        )
    asymmetry = np.abs(matrix - matrix.T).max()
    if asymmetry > SYMMETRY_TOLERANCE * np.abs(matrix).max():
        raise InputError(f"{name} must be symmetric, got entries that differ by {asymmetry:.3g}")
    return (matrix + matrix.T) / 2


def _root(name: str, cov: np.ndarray) -> np.ndarray:
    """Symmetric square root; eigenvalues that ``eigh`` cannot distinguish from zero become zero."""
    values, vectors = np.linalg.eigh(cov)
    largest = np.abs(values).max()
    if values[0] < -SYMMETRY_TOLERANCE * largest:
        raise InputError(f"{name} must be positive semidefinite, got an eigenvalue {values[0]:.3g}")
    resolved = values > len(values) * np.finfo(np.float64).eps * largest
    roots = np.sqrt(np.where(resolved, values, 0.0))
    return (vectors * roots) @ vectors.T
