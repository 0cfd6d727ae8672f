"""L7: the kernel inception distance, over blocks as it is published, and in full.

KID is the unbiased estimate of the squared MMD with the kernel (⟨x, y⟩/d + 1)³ (Bińkowski et al.
2018). Published figures are its mean over 100 blocks of 1000 examples from each set;
the full estimate uses all pairs at once, has the smaller variance, and depends on no seed.
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.checks import check_count
from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.metrics.kernels import polynomial
from jaxdiff.metrics.mmd import Estimate, across, mmd, u_statistic, within
from jaxdiff.metrics.seeds import Seed, generator
from jaxdiff.typing import ArrayLike, InputError


class OverBlocks(NamedTuple):
    """Mean over blocks, and their standard deviation (ddof 0, as published)."""

    mean: float
    sd: float


def kid(
    x: ArrayLike, y: ArrayLike, *, blocks: int = 100, block_size: int = 1000, seed: Seed
) -> OverBlocks:
    """KID over blocks: the protocol of published figures.

    Each block draws examples without replacement from all of both sets. The blocks therefore
    overlap, and sd/√blocks is not the standard error of the mean: see :func:`kid_full`.

    Args:
        x: ``[n, ...]``; the events are flattened to features.
        y: ``[m, ...]``, with the same number of features.
        blocks: their number.
        block_size: examples of each set in a block, at least 2 and at most n and m.
        seed: of the blocks.

    Returns:
        ``OverBlocks(mean, sd)``. The mean is unbiased, and may be negative.

    Raises:
        InputError: if a set is not finite or smaller than a block, widths differ, or a number is
            out of range.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> kid(x, x + 2, blocks=5, block_size=20, seed=0).mean > 10
        True

    Reference:
        Bińkowski et al. 2018, Demystifying MMD GANs.
    """
    check_count("blocks must be a positive integer", blocks)
    check_count("block_size must be a positive integer", block_size)
    if block_size < 2:
        raise InputError(f"block_size must be at least 2, got {block_size}")
    features_x = as_features("x", x, at_least=block_size)
    features_y = as_features("y", y, at_least=block_size)
    check_same_width(("x", "y"), features_x, features_y)
    rng, kernel, values = generator(seed), polynomial(), []
    for _ in range(blocks):
        a = features_x[rng.choice(len(features_x), block_size, replace=False)]
        b = features_y[rng.choice(len(features_y), block_size, replace=False)]
        values.append(u_statistic(within(a, kernel), within(b, kernel), across(a, b, kernel)))
    return OverBlocks(float(np.mean(values)), float(np.std(values)))


def kid_full(x: ArrayLike, y: ArrayLike) -> Estimate:
    """KID over all pairs of examples, with its standard error.

    Args:
        x: ``[n, ...]``, n ≥ 4; the events are flattened to features.
        y: ``[m, ...]``, m ≥ 4, with the same number of features.

    Returns:
        ``Estimate(value, std_error)``. The value is unbiased, and may be negative; it takes
        nm + n² + m² products of features.

    Raises:
        InputError: if a set is not finite or holds fewer than 4 examples, or widths differ.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> value, std_error = kid_full(x, x + 2)
        >>> value > 5 * std_error > 0
        True

    Reference:
        Bińkowski et al. 2018, Demystifying MMD GANs.
    """
    return mmd(x, y, kernel=polynomial())
