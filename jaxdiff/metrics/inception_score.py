"""L7: the inception score, from the class probabilities of any classifier.

With p_i the probabilities of sample i and p̄ their mean over a split of the samples (Salimans et al.
2016, section 4),

    score = exp( mean of Σ_c p_ic (log p_ic − log p̄_c) over i ),                             (1)

the exponential of the mutual information of sample and class. It is between 1, where all samples
have the same probabilities, and the number of classes, where each has one with certainty and all
classes are equally frequent. It never sees the data.
"""

import itertools
from typing import NamedTuple

import numpy as np

from jaxdiff.checks import check_count, finite_array
from jaxdiff.metrics.seeds import Seed, generator
from jaxdiff.typing import ArrayLike, InputError

SUM_TOLERANCE = 1e-3
"""Distance from 1 of a sum of probabilities that counts as rounding, in half precision."""


class InceptionScore(NamedTuple):
    """Mean and standard deviation (ddof 0, as published) over splits; the score of all samples."""

    mean: float
    sd: float
    full: float


def inception_score(probabilities: ArrayLike, *, splits: int = 10, seed: Seed) -> InceptionScore:
    """Inception score over splits, and of all samples together (eq. 1).

    A split has fewer samples than there are classes in common use, and a lower score than all
    samples: the mean depends on n and on the number of splits.

    Args:
        probabilities: of the classes, ``[n, c]``: the softmax of logits, not the logits.
        splits: number of parts of (nearly) equal size; 10 in published figures.
        seed: of the order in which samples are distributed to splits.

    Returns:
        ``InceptionScore(mean, sd, full)``.

    Raises:
        InputError: if rows are not probabilities, or there are fewer samples than splits.

    Example:
        >>> inception_score(np.eye(4)[[0, 1, 2, 3, 0, 1, 2, 3]], splits=1, seed=0)
        InceptionScore(mean=4.0, sd=0.0, full=4.0)

    Reference:
        Salimans et al. 2016, Improved techniques for training GANs, section 4.
    """
    check_count("splits must be a positive integer", splits)
    p = finite_array("probabilities", probabilities)
    if p.ndim != 2 or p.shape[1] == 0:
        raise InputError(f"probabilities must have shape [n, c], got shape {p.shape}")
    if len(p) < splits:
        raise InputError(f"probabilities must hold at least {splits} samples, got {len(p)}")
    error = np.abs(p.sum(axis=1) - 1).max()
    if p.min() < 0 or error > SUM_TOLERANCE:
        raise InputError(
            "probabilities must be non-negative and sum to 1 in every row, got a minimum of "
            f"{p.min():.3g} and sums that differ from 1 by up to {error:.3g}"
        )
    order = generator(seed).permutation(len(p))
    edges = np.arange(splits + 1) * len(p) // splits
    scores = [_score(p[order[a:b]]) for a, b in itertools.pairwise(edges)]
    return InceptionScore(float(np.mean(scores)), float(np.std(scores)), _score(p))


def _score(p: np.ndarray) -> float:
    """The score of one split ``[n, c]`` (eq. 1), where 0 log 0 = 0."""
    ratio = np.divide(p, p.mean(axis=0), out=np.ones_like(p), where=p > 0)
    return float(np.exp(np.mean(np.sum(p * np.log(ratio), axis=1))))
