"""L7: authenticity: the fraction of samples that are not copies of training examples.

A sample f whose nearest training example is t* counts as authentic if t* has a neighbour of its
own that is nearer (Alaa et al. 2022):

    authenticity = mean of 1[‖f − t*‖ > min_{t ≠ t*} ‖t* − t‖].                              (1)

In percent it is called AuthPct. New samples of the data's own distribution do not reach 1 either:
compare with the figure of held-out data.
"""

import numpy as np

from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.metrics.neighbours import nearest
from jaxdiff.typing import ArrayLike


def authenticity(train: ArrayLike, fake: ArrayLike) -> float:
    """Fraction of samples further from the training set than it is from itself there (eq. 1).

    Args:
        train: training examples ``[n, ...]``, n ≥ 2; the events are flattened to features.
        fake: samples ``[m, ...]``, with the same number of features.

    Returns:
        A fraction in [0, 1].

    Raises:
        InputError: if a set is empty or not finite, ``train`` holds a single example, or widths
            differ.

    Example:
        >>> authenticity([0.0, 1.0, 5.0], [0.1, 3.0, 8.0])  # 0.1 is a copy of 0, and 8 of 5
        0.3333333333333333

    Reference:
        Alaa et al. 2022, How faithful is your synthetic data?
    """
    x, y = as_features("train", train, at_least=2), as_features("fake", fake)
    check_same_width(("train", "fake"), x, y)
    closest, distance = nearest(y, x)
    chosen, of = np.unique(closest, return_inverse=True)
    _, spacing = nearest(x[chosen], x, itself=chosen)
    return float(np.mean(distance > spacing[of]))
