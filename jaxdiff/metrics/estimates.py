"""L7: a number with its error."""

from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """An estimate and its standard error; of parts of a set, their mean and their deviation."""

    value: float
    std_error: float


def of_parts(values: np.ndarray) -> Estimate:
    """Mean and standard deviation (ddof 1) over parts of a set, as papers print them.

    The deviation of one part is 0.

    Example:
        >>> of_parts(np.array([1.0, 3.0]))
        Estimate(value=2.0, std_error=1.4142135623730951)
    """
    spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Estimate(float(values.mean()), spread)
