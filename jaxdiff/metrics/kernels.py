"""L7: maximum mean discrepancy between two sets, and the KID.

With a kernel k, the squared distance of the mean embeddings of p and q is

    MMD² = E k(x, x') + E k(y, y') − 2 E k(x, y),    x, x' ~ p,    y, y' ~ q.               (1)

Averages over pairs of different examples estimate it without bias (a U-statistic, which may be
negative); those that include an example with itself are biased upward, but never negative (a
V-statistic). Sums of rows of the kernel matrices suffice, so that memory is bounded by one block.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from jaxdiff.checks import check_count, check_one_of, known_scalar
from jaxdiff.metrics.estimates import Estimate, of_parts
from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.metrics.neighbours import BLOCK_ENTRIES
from jaxdiff.typing import ArrayLike, InputError

KernelFn = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Features ``[n, d]`` and ``[m, d]`` to ``[n, m]``."""

MmdEstimator = Literal["unbiased", "biased"]


def kid(
    x: ArrayLike, y: ArrayLike, *, degree: int = 3, gamma: float | None = None, offset: float = 1.0
) -> Estimate:
    """Kernel distance of two sets (KID): the unbiased MMD² over all pairs, with its error.

    k(a, b) = (γ ⟨a, b⟩ + offset)^degree

    Args:
        x: ``[n, ...]``, n ≥ 3; the events are flattened to features.
        y: ``[m, ...]``, m ≥ 3, with the same number of features.
        degree: of the polynomial.
        gamma: scale of the products; 1/d by default, with d features.
        offset: added to the products.

    Returns:
        The estimate, and its standard error by the jackknife over the examples of both sets, which
        does not fall below the true one in expectation (Efron & Stein 1981).

    Raises:
        InputError: if a set is too small or not finite, widths differ, or an option is invalid.

    Example:
        >>> x = np.array([[0.0], [1.0], [2.0]])
        >>> found = kid(x, x + 3.0, degree=1)  # unbiased for the squared distance of the means:
        >>> round(found.value, 12) == round(9.0 - 1 / 3 - 1 / 3, 12)  # less both variances over n
        True

    Reference: Bińkowski et al. 2018, Demystifying MMD GANs, section 4.
    """
    features_x, features_y = _pair(x, y, at_least=3)
    kernel = _polynomial(features_x.shape[1], degree, gamma, offset)
    return _unbiased(_sums(kernel, features_x, features_y))


def kid_over_blocks(
    x: ArrayLike,
    y: ArrayLike,
    *,
    seed: int,
    num_blocks: int = 100,
    size: int = 1000,
    degree: int = 3,
    gamma: float | None = None,
    offset: float = 1.0,
) -> Estimate:
    """KID as it is mostly published: mean and deviation over random blocks of both sets.

    Args:
        x: ``[n, ...]``, n ≥ ``size``.
        y: ``[m, ...]``, m ≥ ``size``, with the same number of features.
        seed: of the blocks, each drawn without replacement.
        num_blocks: how many.
        size: examples of each set in a block.
        degree: as in :func:`kid`.
        gamma: as in :func:`kid`.
        offset: as in :func:`kid`.

    Returns:
        Mean over the blocks, and their standard deviation, which is that of one block: the blocks
        overlap, and the deviation is not the error of their mean.

    Raises:
        InputError: as :func:`kid`, or if a set is smaller than a block.
    """
    check_count("num_blocks must be a positive integer", num_blocks)
    check_count("size must be a positive integer", size)
    features_x, features_y = _pair(x, y, at_least=max(3, size))
    kernel = _polynomial(features_x.shape[1], degree, gamma, offset)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(num_blocks):
        some_x = features_x[generator.choice(len(features_x), size, replace=False)]
        some_y = features_y[generator.choice(len(features_y), size, replace=False)]
        values.append(_value(_sums(kernel, some_x, some_y), "unbiased"))
    return of_parts(np.array(values))


def mmd(
    x: ArrayLike, y: ArrayLike, *, bandwidth: float = 10.0, estimator: MmdEstimator = "unbiased"
) -> float:
    """MMD² of two sets under a Gaussian kernel; of CLIP features of length 1 it is CMMD.

    k(a, b) = exp(−‖a − b‖²/2 bandwidth²)

    Args:
        x: ``[n, ...]``, n ≥ 2; the events are flattened to features.
        y: ``[m, ...]``, m ≥ 2, with the same number of features.
        bandwidth: of the kernel, in units of the features; 10 for CMMD.
        estimator: "unbiased", as CMMD's paper defines it, or "biased", as its code computes it;
            both multiply it by 1000.

    Raises:
        InputError: if a set is too small or not finite, widths differ, or an option is invalid.

    Example:
        >>> x = np.array([[0.0], [1.0]])
        >>> mmd(x, x, estimator="biased")
        0.0

    Reference: Gretton et al. 2012, A kernel two-sample test, eq. 3 and 5; Jayasumana et al. 2024.
    """
    known_scalar("bandwidth must be positive and finite", bandwidth, 0, strict=True)
    check_one_of(estimator=(estimator, MmdEstimator))
    features_x, features_y = _pair(x, y, at_least=2)
    centre = features_x.mean(axis=0)

    def gaussian(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        norm_a, norm_b = np.sum(a**2, axis=1, keepdims=True), np.sum(b**2, axis=1)
        squared = np.maximum(norm_a + norm_b - 2 * a @ b.T, 0.0)
        return np.exp(-squared / (2 * bandwidth**2))

    return _value(_sums(gaussian, features_x - centre, features_y - centre), estimator)


class _Sums(NamedTuple):
    """Sums of rows of the kernel matrices, and their diagonals."""

    xx: np.ndarray
    yy: np.ndarray
    xy: np.ndarray
    yx: np.ndarray
    x_self: np.ndarray
    y_self: np.ndarray


def _pair(x: ArrayLike, y: ArrayLike, *, at_least: int) -> tuple[np.ndarray, np.ndarray]:
    pair = as_features("x", x, at_least=at_least), as_features("y", y, at_least=at_least)
    check_same_width(("x", "y"), *pair)
    return pair


def _polynomial(width: int, degree: int, gamma: float | None, offset: float) -> KernelFn:
    check_count("degree must be a positive integer", degree)
    scale = 1 / width if gamma is None else gamma
    known_scalar("gamma must be positive and finite", scale, 0, strict=True)
    if not np.isfinite(offset):
        raise InputError(f"offset must be finite, got {offset}")
    return lambda a, b: (scale * (a @ b.T) + offset) ** degree


def _sums(kernel: KernelFn, x: np.ndarray, y: np.ndarray) -> _Sums:
    def rows(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size = max(1, BLOCK_ENTRIES // len(b))
        over_rows, over_columns = [], np.zeros(len(b))
        for start in range(0, len(a), size):
            block = kernel(a[start : start + size], b)
            over_rows.append(block.sum(axis=1))
            over_columns += block.sum(axis=0)
        return np.concatenate(over_rows), over_columns

    def itself(a: np.ndarray) -> np.ndarray:
        return np.array([kernel(row[None], row[None])[0, 0] for row in a])

    (xx, _), (yy, _), (xy, yx) = rows(x, x), rows(y, y), rows(x, y)
    return _Sums(xx, yy, xy, yx, itself(x), itself(y))


def _value(sums: _Sums, estimator: MmdEstimator) -> float:
    n, m = len(sums.xx), len(sums.yy)
    within_x, within_y = sums.xx.sum(), sums.yy.sum()
    if estimator == "biased":
        value = within_x / n**2 + within_y / m**2 - 2 * sums.xy.sum() / (n * m)
        return max(float(value), 0.0)
    within_x, within_y = within_x - sums.x_self.sum(), within_y - sums.y_self.sum()
    value = within_x / (n * (n - 1)) + within_y / (m * (m - 1)) - 2 * sums.xy.sum() / (n * m)
    return float(value)


def _unbiased(sums: _Sums) -> Estimate:
    """The U-statistic; leaving out one example changes it by what its rows add."""
    n, m = len(sums.xx), len(sums.yy)
    others_x, others_y = sums.xx - sums.x_self, sums.yy - sums.y_self
    within_x, within_y, between = others_x.sum(), others_y.sum(), sums.xy.sum()
    mean_x, mean_y = within_x / (n * (n - 1)), within_y / (m * (m - 1))
    without_x = (
        (within_x - 2 * others_x) / ((n - 1) * (n - 2))
        + mean_y
        - 2 * (between - sums.xy) / ((n - 1) * m)
    )
    without_y = (
        mean_x
        + (within_y - 2 * others_y) / ((m - 1) * (m - 2))
        - 2 * (between - sums.yx) / (n * (m - 1))
    )
    variance = (n - 1) * without_x.var() + (m - 1) * without_y.var()
    return Estimate(float(mean_x + mean_y - 2 * between / (n * m)), float(np.sqrt(variance)))
