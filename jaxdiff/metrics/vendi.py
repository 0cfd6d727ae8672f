"""L7: the Vendi score: how many different examples a set holds.

For examples of unit length, X ``[n, d]``, the eigenvalues λ_i of the similarity matrix XXᵀ/n are
non-negative and sum to 1. The score is the exponential of their entropy (Friedman & Dieng 2023,
definition 3.1),

    vendi = exp(−Σ_i λ_i log λ_i),                                                          (1)

which is 1 for n copies of one example, and n for orthogonal ones. XXᵀ and XᵀX have the same
eigenvalues except zeros, so the smaller of the two is decomposed.
"""

import numpy as np

from jaxdiff.metrics.features import unit_features
from jaxdiff.typing import ArrayLike


def vendi(x: ArrayLike) -> float:
    """Effective number of different examples in a set, by cosine similarity (eq. 1).

    It needs no reference. A set of noise has a high score: it measures diversity only.

    Args:
        x: ``[n, ...]``; the events are flattened to features, and scaled to length 1.

    Returns:
        A number in [1, min(n, d)].

    Raises:
        InputError: if ``x`` is empty or not finite, or an example is zero.

    Example:
        >>> round(vendi([[1.0, 0.0], [0.0, 2.0], [0.0, 3.0]]), 6)  # λ = 1/3 and 2/3
        1.889882

    Reference:
        Friedman & Dieng 2023, The Vendi score, definition 3.1.
    """
    features = unit_features("x", x)
    n, d = features.shape
    gram = features @ features.T if n <= d else features.T @ features
    values = np.linalg.eigvalsh(gram / n)
    positive = values[values > 0]
    return float(np.exp(-np.sum(positive * np.log(positive))))
