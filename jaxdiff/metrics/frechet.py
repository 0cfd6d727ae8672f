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

import numpy as np

from jaxdiff.checks import finite_array
from jaxdiff.metrics.estimates import Estimate
from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.metrics.moments import Moments, moments
from jaxdiff.typing import ArrayLike, InputError

SYMMETRY_TOLERANCE = 1e-5
"""Asymmetry and negative eigenvalues, relative to the largest, that count as float32 rounding."""


def frechet_distance(x: ArrayLike, y: ArrayLike) -> float:
    """Fit a Gaussian to each set and return their Fréchet distance (eq. 1), which is squared.

    FID (Heusel et al. 2017) is this number for the 2048 pool features of Inception-v3. The estimate
    is biased upward, more so for fewer examples: compare figures only at equal n and m.

    Args:
        x: ``[n, ...]``, n ≥ 2; the events are flattened to features.
        y: ``[m, ...]``, m ≥ 2, with the same number of features.

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
    features_x, features_y = as_features("x", x, at_least=2), as_features("y", y, at_least=2)
    check_same_width(("x", "y"), features_x, features_y)
    return _between(moments(features_x), moments(features_y))


def frechet_infinity(
    x: ArrayLike, y: ArrayLike, *, seed: int, num_sizes: int = 15, smallest: int | None = None
) -> Estimate:
    """Extrapolate the Fréchet distance of samples x to infinitely many of them (FID∞).

    The distance of random subsets of n samples is fitted by a + b/n, since its bias is of order
    1/n; a is the estimate. The bias due to the finite number of references y remains.

    Args:
        x: samples ``[n, ...]``.
        y: references ``[m, ...]``, m ≥ 2, with the same number of features.
        seed: of the subsets.
        num_sizes: of the subsets, evenly spread up to n; at least 3.
        smallest: of these sizes; min(5000, n/10) by default, but at least 2.

    Returns:
        The intercept a, and its standard error by the residuals of the fit, which is an
        underestimate: the subsets overlap.

    Raises:
        InputError: as :func:`frechet_distance`, or if there are fewer than 3 different sizes.

    Reference: Chong & Forsyth 2020, Effectively unbiased FID and Inception Score, section 3.
    """
    features_x, features_y = as_features("x", x, at_least=4), as_features("y", y, at_least=2)
    check_same_width(("x", "y"), features_x, features_y)
    n = len(features_x)
    first = max(2, min(5000, n // 10)) if smallest is None else smallest
    sizes = np.unique(np.linspace(first, n, num_sizes).astype(int))
    if len(sizes) < 3 or sizes[0] < 2:
        raise InputError(
            f"the sizes must be at least 3, from 2 on, got {num_sizes} from {first} to {n}"
        )
    reference, generator = moments(features_y), np.random.default_rng(seed)
    distances = [
        _between(moments(features_x[generator.permutation(n)[:size]]), reference) for size in sizes
    ]
    design = np.stack([np.ones(len(sizes)), 1 / sizes], axis=1)
    solution, *_ = np.linalg.lstsq(design, np.array(distances), rcond=None)
    residual = np.array(distances) - design @ solution
    variance = np.sum(residual**2) / (len(sizes) - 2) * np.linalg.inv(design.T @ design)[0, 0]
    return Estimate(float(solution[0]), float(np.sqrt(variance)))


def _between(a: Moments, b: Moments) -> float:
    return frechet_from_moments(a.mean, a.covariance, b.mean, b.covariance)


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
    c_x, c_y = (
        _covariance(name, cov, len(mu_x)) for name, cov in (("cov_x", cov_x), ("cov_y", cov_y))
    )
    root_x, root_y = _root("cov_x", c_x), _root("cov_y", c_y)
    overlap = np.linalg.svd(root_x @ root_y, compute_uv=False).sum()
    distance = np.sum((mu_x - mu_y) ** 2) + np.trace(c_x) + np.trace(c_y) - 2 * overlap
    return max(float(distance), 0.0)


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
