"""L7: the test of data-copying: are samples nearer to the training set than held-out data are?

In every cell of a partition of the features let L(·) be the distance to the nearest training
example of the cell, and U the number of pairs of a sample f and a held-out example h, out of mn,
with L(f) > L(h), ties counting one half. Under equal distributions U has a known mean and variance
(Mann & Whitney 1947), and the score is the mean of its z over cells, by their held-out examples
(Meehan et al. 2020):

    z_U = (U − mn/2) / √(mn(m + n + 1)/12)                                                  (1)
    C_T = Σ_cells P(cell) z_U(cell) / Σ_cells P(cell)                                       (2)

over cells with enough samples, P being the fraction of held-out examples in a cell. C_T ≪ 0 is
copying; C_T ≫ 0 is underfitting: samples are further from the data than new data are. It grows as
the root of the number of examples, so compare figures at equal numbers only. The published code
adds 1/2 to U, of no consequence.
"""

from typing import NamedTuple

import numpy as np

from jaxdiff.checks import check_count, is_count
from jaxdiff.metrics.features import as_features, check_same_width
from jaxdiff.metrics.kmeans import assign, kmeans
from jaxdiff.metrics.moments import moments
from jaxdiff.metrics.neighbours import nearest
from jaxdiff.metrics.seeds import Seed, generator
from jaxdiff.typing import ArrayLike, InputError


class DataCopying(NamedTuple):
    """The score C_T; z_U ``[c]`` of the cells that count, and their weights ``[c]``, of sum 1."""

    score: float
    z: np.ndarray
    weights: np.ndarray


def data_copying(
    train: ArrayLike,
    test: ArrayLike,
    fake: ArrayLike,
    *,
    cells: int = 3,
    components: int = 64,
    least: int = 20,
    seed: Seed,
) -> DataCopying:
    """CT score: negative if samples are nearer to training examples than held-out ones are (eq. 2).

    Args:
        train: training examples ``[l, ...]``; the events are flattened to features.
        test: held-out examples ``[n, ...]``, with the same number of features.
        fake: samples ``[m, ...]``, with the same number of features.
        cells: their number, by k-means of the training examples; 3 in dgm-eval.
        components: features of more dimensions are projected to as many principal components of
            the training examples; 64 in dgm-eval.
        least: a cell counts if it holds more samples than this; 20 in dgm-eval.
        seed: of k-means.

    Returns:
        ``DataCopying(score, z, weights)``.

    Raises:
        InputError: if a set is empty or not finite, widths differ, ``train`` has fewer different
            examples than cells, a cell has no held-out example, or none has enough samples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> train, test = rng.normal(size=(2, 200, 4))
        >>> copies = train + 0.01 * rng.normal(size=train.shape)
        >>> data_copying(train, test, copies, seed=0).score < -5
        True

    Reference:
        Meehan, Chaudhuri & Dasgupta 2020, A non-parametric test to detect data-copying.
    """
    check_count("cells must be a positive integer", cells)
    check_count("components must be a positive integer", components)
    if not (is_count(least) or least == 0):
        raise InputError(f"least must be an integer of at least 0, got {least!r}")
    rng, sets = generator(seed), [as_features("train", train)]
    for name, x in (("test", test), ("fake", fake)):
        sets.append(as_features(name, x))
        check_same_width(("train", name), sets[0], sets[-1])
    sets = _project(sets, components)
    centres = kmeans(rng, "train", sets[0], cells)
    cell_of = [assign(x, centres) for x in sets]
    z, held_out = [], []
    for cell in range(cells):
        inside = [x[of == cell] for x, of in zip(sets, cell_of, strict=True)]
        known, new, samples = inside
        if not (len(known) and len(new)):
            raise InputError(
                "every cell must hold training and held-out examples, got "
                f"{len(known)} and {len(new)} in one of {cells}: reduce cells"
            )
        if len(samples) > least:
            z.append(_mann_whitney(nearest(samples, known)[1], nearest(new, known)[1]))
            held_out.append(len(new))
    if not z:
        raise InputError(f"fake must hold more than {least} examples in some cell")
    weights = np.array(held_out) / sum(held_out)
    return DataCopying(float(weights @ z), np.array(z), weights)


def _project(sets: list[np.ndarray], components: int) -> list[np.ndarray]:
    """All sets on the principal components of the first, if they have more dimensions."""
    if sets[0].shape[1] <= components:
        return sets
    _, mean, scatter = moments(sets[0])
    axes = np.linalg.eigh(scatter)[1][:, -components:]  # eigenvalues ascend
    return [(x - mean) @ axes for x in sets]


def _mann_whitney(x: np.ndarray, y: np.ndarray) -> float:
    """The z of the number of pairs with x > y (eq. 1), of ``x [m]`` and ``y [n]``."""
    m, n, ordered = len(x), len(y), np.sort(y)
    less = np.searchsorted(ordered, x, side="left")
    not_greater = np.searchsorted(ordered, x, side="right")
    pairs = np.sum(less + not_greater) / 2
    return float((pairs - m * n / 2) / np.sqrt(m * n * (m + n + 1) / 12))
