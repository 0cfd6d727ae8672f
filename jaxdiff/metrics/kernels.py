"""L7: positive definite kernels, for the maximum mean discrepancy.

A kernel is a function of two sets ``[b, d]`` and ``[m, d]`` that returns its values ``[b, m]`` for
all pairs, less any constant: a constant cancels in every MMD, and without it sums over many pairs
keep the digits in which the pairs differ.

    polynomial    (γ⟨x, y⟩ + c)^p − c^p = Σ_{j=1}^{p} C(p, j) c^{p−j} (γ⟨x, y⟩)^j               (1)
    gaussian      exp(−‖x − y‖²/(2s²)) − 1                                                   (2)
"""

import math
from collections.abc import Callable

import numpy as np

from jaxdiff.checks import check_count, known_scalar

Kernel = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``([b, d], [m, d]) -> [b, m]``, less a constant."""


def polynomial(*, degree: int = 3, gamma: float | None = None, coef: float = 1.0) -> Kernel:
    """Polynomial kernel (γ⟨x, y⟩ + c)^p (eq. 1); its defaults are those of KID.

    Args:
        degree: p, a positive integer.
        gamma: γ > 0; 1/d if None.
        coef: c ≥ 0.

    Returns:
        The kernel, less c^p.

    Raises:
        InputError: if a parameter is out of range.

    Example:
        >>> polynomial(degree=2)(np.array([[1.0, 1.0]]), np.array([[2.0, 4.0]]))  # (3 + 1)² − 1
        array([[15.]])

    Reference:
        Bińkowski et al. 2018, Demystifying MMD GANs (KID).
    """
    check_count("degree must be a positive integer", degree)
    if gamma is not None:
        known_scalar("gamma must be a number above 0", gamma, 0, strict=True)
    known_scalar("coef must be a number of at least 0", coef, 0)
    binomial = [math.comb(degree, j) * coef ** (degree - j) for j in range(1, degree + 1)]

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        product = (1 / x.shape[1] if gamma is None else gamma) * (x @ y.T)
        value = np.zeros_like(product)
        for coefficient in reversed(binomial):
            value = (value + coefficient) * product
        return value

    return kernel


def gaussian(bandwidth: float) -> Kernel:
    """Gaussian kernel exp(−‖x − y‖²/(2s²)) (eq. 2).

    Args:
        bandwidth: s > 0, in units of the features.

    Returns:
        The kernel, less 1.

    Raises:
        InputError: if ``bandwidth`` is not positive.

    Example:
        >>> gaussian(1.0)(np.array([[0.0]]), np.array([[1.0], [2.0]])).round(4)  # e^{−1/2} − 1, …
        array([[-0.3935, -0.8647]])
    """
    known_scalar("bandwidth must be a number above 0", bandwidth, 0, strict=True)

    def kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        centre = y.mean(axis=0)  # any point near both: it only limits the rounding error
        x, y = x - centre, y - centre
        norms = np.sum(x**2, axis=1)[:, None] + np.sum(y**2, axis=1)
        squared = np.maximum(norms - 2 * x @ y.T, 0.0)
        return np.expm1(-squared / (2 * bandwidth**2))

    return kernel
