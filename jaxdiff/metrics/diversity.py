"""L7: how many different things a set of samples holds, without a reference."""

import numpy as np

from jaxdiff.checks import check_count
from jaxdiff.metrics.estimates import Estimate, of_parts
from jaxdiff.metrics.features import as_features
from jaxdiff.typing import ArrayLike, InputError

SUM_TOLERANCE = 1e-4
"""By how much the probabilities of an example may miss 1, as float32 sums do."""


def inception_score(probabilities: ArrayLike, *, splits: int = 10, seed: int = 0) -> Estimate:
    """Inception Score: exp of the mutual information of an image and its predicted class.

    IS = exp(mean over x of KL(p(c | x) ‖ p(c))),    p(c) the mean of p(c | x) over the split

    Args:
        probabilities: of the classes for every sample, ``[n, classes]``.
        splits: parts of the shuffled set, over which mean and deviation are taken; 10 is usual, and
            1 gives the score of the whole set.
        seed: of the order.

    Returns:
        Mean over the splits, from 1 to the number of classes, and their standard deviation.

    Raises:
        InputError: if they are no probabilities, or there are fewer samples than splits.

    Example:
        >>> round(inception_score(np.eye(4), splits=1).value, 6)  # sure, and every class as often
        4.0

    Reference: Salimans et al. 2016, Improved techniques for training GANs, section 4.
    """
    check_count("splits must be a positive integer", splits)
    p = as_features("probabilities", probabilities, at_least=splits)
    if p.min() < 0 or np.abs(p.sum(axis=1) - 1).max() > SUM_TOLERANCE:
        raise InputError(
            "probabilities must be at least 0 and sum to 1 over the classes, got a minimum of "
            f"{p.min():.3g} and sums from {p.sum(axis=1).min():.6g} to {p.sum(axis=1).max():.6g}"
        )
    order = np.random.default_rng(seed).permutation(len(p))
    scores = []
    for rows in np.array_split(order, splits):
        part = p[rows]
        mean = part.mean(axis=0)
        ratio = np.divide(part, mean, out=np.ones_like(part), where=part > 0)
        scores.append(np.exp(np.mean(np.sum(part * np.log(ratio), axis=1))))
    return of_parts(np.array(scores))


def vendi_score(x: ArrayLike) -> float:
    """Vendi score: the effective number of different samples.

    exp(−Σ λ log λ),    λ the eigenvalues of XXᵀ/n, the rows of X being of length 1

    Args:
        x: ``[n, ...]``; the events are flattened to features, and scaled to length 1.

    Returns:
        From 1, for identical samples, to min(n, d), for orthogonal ones.

    Raises:
        InputError: if the set is empty or not finite, or a sample is zero.

    Example:
        >>> round(vendi_score(np.eye(3)), 6), round(vendi_score(np.ones((3, 3))), 6)
        (3.0, 1.0)

    Reference: Friedman & Dieng 2023, The Vendi score, definition 3.1.
    """
    features = as_features("x", x)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    if not length.all():
        raise InputError("x must hold no sample of zeros, which has no direction")
    unit = features / length
    n, d = unit.shape
    gram = unit @ unit.T if n < d else unit.T @ unit  # with the same eigenvalues but for zeros
    values = np.linalg.eigvalsh(gram / n)
    values = values[values > 0]
    return float(np.exp(-np.sum(values * np.log(values))))
