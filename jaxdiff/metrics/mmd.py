"""L7: the squared maximum mean discrepancy, with its standard error.

For x_1…x_n from P, y_1…y_m from Q and a kernel k (Gretton et al. 2012, eq. 3 and 5),

    unbiased   U = Σ_{i≠j} k(x_i, x_j)/n(n−1) + Σ_{i≠j} k(y_i, y_j)/m(m−1) − 2 Σ_ij k(x_i, y_j)/nm
    biased     V = Σ_ij k(x_i, x_j)/n² + Σ_ij k(y_i, y_j)/m² − 2 Σ_ij k(x_i, y_j)/nm           (1)

With features φ of the kernel, k(x, y) = ⟨φ(x), φ(y)⟩, let a = φ(x) − E φ(x), b = φ(y) − E φ(y) and
Δ = E φ(x) − E φ(y). U is a sum of uncorrelated terms (Hoeffding's decomposition), and exactly

    Var U = 4 Var⟨Δ, a⟩/n + 4 Var⟨Δ, b⟩/m + 2τ_xx/n(n−1) + 2τ_yy/m(m−1) + 4τ_xy/nm            (2)
    τ_xx = E⟨a, a'⟩²,  τ_yy = E⟨b, b'⟩²,  τ_xy = E⟨a, b⟩².

The last three terms alone remain if P = Q. Each τ has an unbiased estimate from sums over rows of k
and over k². The sample variance s²_x of the jackknife's r_i = Σ_{j≠i} k(x_i, x_j)/(n−2) −
Σ_j k(x_i, y_j)/m has expectation

    E s²_x = Var⟨Δ, a⟩ + τ_xx/(n−2) + τ_xy/m,                                                (3)

and likewise s²_y: solving for Var⟨Δ, a⟩ makes the estimate of (2) unbiased at any n and m, whereas
the jackknife, 4s²_x/n + 4s²_y/m, counts the last three terms about twice.
"""

from typing import Literal, NamedTuple

import numpy as np

from jaxdiff.checks import check_one_of
from jaxdiff.metrics.blocks import row_blocks
from jaxdiff.metrics.features import as_features, check_same_width, unit_features
from jaxdiff.metrics.kernels import Kernel, gaussian
from jaxdiff.typing import ArrayLike

Estimator = Literal["unbiased", "biased"]
"""U, which may be negative, or V, which is at least 0 (eq. 1)."""

CMMD_BANDWIDTH = 10.0
"""Of the Gaussian kernel, for features of length 1."""


class Estimate(NamedTuple):
    """An estimate with its standard error, in the same units."""

    value: float
    std_error: float


class Sums(NamedTuple):
    """Sums of k over pairs: by row ``[n]`` and by column ``[m]``, of k², and over the diagonal.

    Within one set the diagonal is in none of the others.
    """

    rows: np.ndarray
    columns: np.ndarray
    squares: float
    diagonal: float


def mmd(
    x: ArrayLike, y: ArrayLike, *, kernel: Kernel, estimator: Estimator = "unbiased"
) -> Estimate:
    """Squared maximum mean discrepancy (eq. 1), with its standard error (eq. 2).

    Args:
        x: ``[n, ...]``, n ≥ 4; the events are flattened to features.
        y: ``[m, ...]``, m ≥ 4, with the same number of features.
        kernel: one of :mod:`~jaxdiff.metrics.kernels`.
        estimator: "unbiased" is U, which may be negative; "biased" is V, larger by about the mean
            of k(x, x) − k(x, x') over n, and the same for y.

    Returns:
        ``Estimate(value, std_error)``. The standard error is that of U; that of V differs from it
        by O(1/n), relatively.

    Raises:
        InputError: if a set is not finite or holds fewer than 4 examples, widths differ, or the
            estimator has another name.

    Example:
        >>> from jaxdiff.metrics import kernels
        >>> x = np.arange(8.0)
        >>> mmd(x, x + 1, kernel=kernels.polynomial(degree=1)).value  # (3.5 − 4.5)² − 2·6/8
        -0.5

    Reference:
        Gretton et al. 2012, A kernel two-sample test, eq. 3 and 5.
    """
    features_x, features_y = as_features("x", x, at_least=4), as_features("y", y, at_least=4)
    return _estimate(features_x, features_y, kernel, estimator)


def cmmd(x: ArrayLike, y: ArrayLike, *, estimator: Estimator = "biased") -> Estimate:
    """CMMD: the MMD of embeddings of length 1 by a Gaussian kernel of bandwidth 10.

    The paper prints the unbiased estimator; its code, hence every published figure, uses the biased
    one, which is the default here. Figures are published times 1000; this one is not.

    Args:
        x: embeddings of CLIP ViT-L/14@336 ``[n, d]``, n ≥ 4; they are scaled to length 1.
        y: those of the reference ``[m, d]``, m ≥ 4.
        estimator: "biased" or "unbiased".

    Returns:
        ``Estimate(value, std_error)``, as for :func:`mmd`.

    Raises:
        InputError: as for :func:`mmd`, and if an embedding is zero.

    Example:
        >>> x = np.eye(4)
        >>> round(1000 * cmmd(x, -x).value, 4)  # 1000 (1 − e^{−4/200})/2
        9.9007

    Reference:
        Jayasumana et al. 2024, Rethinking FID: towards a better evaluation metric.
    """
    features_x, features_y = unit_features("x", x, at_least=4), unit_features("y", y, at_least=4)
    return _estimate(features_x, features_y, gaussian(CMMD_BANDWIDTH), estimator)


def _estimate(x: np.ndarray, y: np.ndarray, kernel: Kernel, estimator: Estimator) -> Estimate:
    check_same_width(("x", "y"), x, y)
    check_one_of(estimator=(estimator, Estimator))
    xx, yy, xy = within(x, kernel), within(y, kernel), across(x, y, kernel)
    value = u_statistic(xx, yy, xy) if estimator == "unbiased" else _v_statistic(xx, yy, xy)
    linear, quadratic = variance_terms(xx, yy, xy)
    # both parts are at least 0, but not their estimates
    return Estimate(value, float(np.sqrt(max(linear, 0.0) + max(quadratic, 0.0))))


def within(x: np.ndarray, kernel: Kernel) -> Sums:
    """Sums of k over the pairs i ≠ j of one set ``[n, d]``."""
    rows, squares, diagonal = np.empty(len(x)), 0.0, 0.0
    for i in row_blocks(len(x), len(x)):
        block = kernel(x[i], x)
        itself = np.arange(len(i)), i
        diagonal += float(block[itself].sum())
        block[itself] = 0.0
        rows[i] = block.sum(axis=1)
        squares += float(np.vdot(block, block))
    return Sums(rows, rows, squares, diagonal)


def across(x: np.ndarray, y: np.ndarray, kernel: Kernel) -> Sums:
    """Sums of k over all pairs of two sets ``[n, d]`` and ``[m, d]``."""
    rows, columns, squares = np.empty(len(x)), np.zeros(len(y)), 0.0
    for i in row_blocks(len(x), len(y)):
        block = kernel(x[i], y)
        rows[i] = block.sum(axis=1)
        columns += block.sum(axis=0)
        squares += float(np.vdot(block, block))
    return Sums(rows, columns, squares, 0.0)


def u_statistic(xx: Sums, yy: Sums, xy: Sums) -> float:
    """The unbiased estimate U (eq. 1) from sums over n ≥ 2 and m ≥ 2 examples."""
    n, m = len(xy.rows), len(xy.columns)
    own = xx.rows.sum() / (n * (n - 1)) + yy.rows.sum() / (m * (m - 1))
    return float(own - 2 * xy.rows.sum() / (n * m))


def _v_statistic(xx: Sums, yy: Sums, xy: Sums) -> float:
    n, m = len(xy.rows), len(xy.columns)
    own = (xx.rows.sum() + xx.diagonal) / n**2 + (yy.rows.sum() + yy.diagonal) / m**2
    return max(float(own - 2 * xy.rows.sum() / (n * m)), 0.0)


def variance_terms(xx: Sums, yy: Sums, xy: Sums) -> tuple[float, float]:
    """Unbiased estimates of the terms in Δ and in τ of Var U (eq. 2), for n ≥ 4 and m ≥ 4."""
    n, m = len(xy.rows), len(xy.columns)
    tau_xx, tau_yy, tau_xy = _tau_within(xx), _tau_within(yy), _tau_across(xy)
    s2_x = np.var(xx.rows / (n - 2) - xy.rows / m, ddof=1)
    s2_y = np.var(yy.rows / (m - 2) - xy.columns / n, ddof=1)
    linear = 4 * (s2_x - tau_xx / (n - 2) - tau_xy / m) / n
    linear += 4 * (s2_y - tau_yy / (m - 2) - tau_xy / n) / m
    quadratic = 2 * tau_xx / (n * (n - 1)) + 2 * tau_yy / (m * (m - 1)) + 4 * tau_xy / (n * m)
    return float(linear), float(quadratic)


def _tau_within(sums: Sums) -> float:
    """E k(x, x')² − 2 E k(x, x') k(x, x'') + (E k(x, x'))², all of different examples."""
    n, rows, squares = len(sums.rows), sums.rows, sums.squares
    shared = np.sum(rows**2)
    one = squares / (n * (n - 1))
    two = (shared - squares) / (n * (n - 1) * (n - 2))
    none = (rows.sum() ** 2 - 4 * shared + 2 * squares) / (n * (n - 1) * (n - 2) * (n - 3))
    return float(one - 2 * two + none)


def _tau_across(sums: Sums) -> float:
    """E k(x, y)² − E k(x, y) k(x, y') − E k(x, y) k(x', y) + (E k(x, y))²."""
    n, m, squares = len(sums.rows), len(sums.columns), sums.squares
    by_row, by_column = np.sum(sums.rows**2), np.sum(sums.columns**2)
    one = squares / (n * m)
    same_x = (by_row - squares) / (n * m * (m - 1))
    same_y = (by_column - squares) / (n * m * (n - 1))
    none = sums.rows.sum() ** 2 - by_row - by_column + squares
    return float(one - same_x - same_y + none / (n * (n - 1) * m * (m - 1)))
