"""Density, coverage and authenticity against their definitions and expectations."""

import numpy as np
import pytest
import scipy.stats
from assertions import assert_mean_close
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tools import assert_refused_in_one_line, rotation
from scipy.spatial.distance import cdist

from jaxdiff import metrics
from jaxdiff.metrics import blocks

# Density and coverage


def density_coverage_by_definition(real, fake, k):
    distance = cdist(real, fake)
    own = cdist(real, real)
    density, covered = 0, 0
    for i in range(len(real)):
        radius = sorted(own[i, j] for j in range(len(real)) if j != i)[k - 1]
        inside = [distance[i, j] < radius for j in range(len(fake))]
        density += sum(inside) / (k * len(fake))
        covered += any(inside) / len(real)
    return density, covered


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_density_and_coverage_match_the_paper(seed, k):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(23, 3)), 0.5 + 1.3 * rng.normal(size=(17, 3))
    expected = density_coverage_by_definition(real, fake, k)
    assert min(expected) > 0
    assert metrics.density_coverage(real, fake, k=k) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_ties_count_as_outside(offset):
    """On integer points many distances equal a radius: rounding must not matter."""
    rng = np.random.default_rng(1)
    real, fake = rng.integers(0, 6, size=(25, 2)) * 1.0, rng.integers(0, 6, size=(20, 2)) * 1.0 + 1
    expected = density_coverage_by_definition(real, fake, 3)
    assert metrics.density_coverage(real + offset, fake + offset, k=3) == pytest.approx(expected)


def test_density_and_coverage_of_equal_and_of_far_sets():
    """Of a set with itself: every ball contains its centre and k − 1 neighbours."""
    x = np.random.default_rng(0).normal(size=(30, 4))
    assert metrics.density_coverage(x, x) == pytest.approx((1.0, 1.0), abs=1e-12)
    assert metrics.density_coverage(x, x + 100) == (0.0, 0.0)


@pytest.mark.parametrize(("dim", "n", "m", "k"), [(1, 12, 12, 1), (3, 15, 8, 2), (2, 8, 20, 5)])
def test_expectations_under_equal_distributions_are_known(dim, n, m, k):
    """Of n − 1 real and m fake examples in random order, none of the first k is fake."""
    rng = np.random.default_rng(dim)
    found = np.array(
        [
            metrics.density_coverage(
                rng.exponential(size=(n, dim)), rng.exponential(size=(m, dim)), k=k
            )
            for _ in range(1000)
        ]
    )
    uncovered = scipy.stats.hypergeom(n - 1 + m, m, k).pmf(0)
    assert_mean_close(found, [1.0, 1 - uncovered])


def test_density_counts_balls_where_precision_needs_one():
    """One outlier of the data makes a ball that accepts everything."""
    rng = np.random.default_rng(0)
    real = np.concatenate([rng.normal(size=(99, 2)), [[40.0, 0.0]]])
    fake = np.array([20.0, 0.0]) + rng.normal(size=(50, 2))
    assert metrics.precision_recall(real, fake).precision == 1.0
    assert metrics.density_coverage(real, fake, k=3).density < 0.4


# Authenticity


def authenticity_by_definition(train, fake):
    authentic = []
    for f in fake:
        distances = [np.linalg.norm(f - t) for t in train]
        i = int(np.argmin(distances))
        own = min(np.linalg.norm(train[i] - t) for j, t in enumerate(train) if j != i)
        authentic.append(distances[i] > own)
    return np.mean(authentic)


@pytest.mark.parametrize("seed", range(4))
def test_authenticity_matches_the_paper(seed):
    rng = np.random.default_rng(seed)
    train, fake = rng.normal(size=(25, 2, 2)), 1.2 * rng.normal(size=(31, 2, 2))
    expected = authenticity_by_definition(train.reshape(25, 4), fake.reshape(31, 4))
    assert 0 < expected < 1
    assert metrics.authenticity(train, fake) == pytest.approx(expected, rel=1e-12)


def test_authenticity_of_copies_of_strangers_and_of_ties():
    train = np.array([[0.0], [1.0], [5.0]])
    assert metrics.authenticity(train, train) == 0.0
    assert metrics.authenticity(train, train + 1e-3) == 0.0
    assert metrics.authenticity(train, train + 100) == 1.0
    assert metrics.authenticity(train, [[-1.0], [9.0]]) == 0.0  # at distances 1 and 4: ties
    assert metrics.authenticity(train, [[-1.001], [9.001]]) == 1.0
    assert metrics.authenticity(train, [[2.0], [2.1]]) == 0.5


# Invariances, for all of them


def all_of(real, other, fake):
    return (
        *metrics.density_coverage(real, fake, k=2),
        metrics.authenticity(real, fake),
        metrics.data_copying(real, other, fake, cells=1, seed=0).score,
    )


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10.0))
@settings(max_examples=15, deadline=None)
def test_rotation_translation_scale_and_order_change_nothing(seed, scale):
    rng = np.random.default_rng(seed)
    sets = [rng.normal(size=(size, 3)) for size in (19, 15, 23)]
    r, shift = rotation(rng, 3), rng.normal(size=3)
    found = all_of(*sets)
    assert all_of(*[scale * x @ r + shift for x in sets]) == pytest.approx(found, abs=1e-12)
    assert all_of(*[rng.permutation(x) for x in sets]) == pytest.approx(found, abs=1e-12)


@pytest.mark.parametrize("entries", [1, 7, 50])
def test_blocks_do_not_change_the_result(monkeypatch, entries):
    rng = np.random.default_rng(2)
    sets = [rng.normal(size=(size, 3)) for size in (19, 15, 23)]
    whole = all_of(*sets)
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", entries)
    assert all_of(*sets) == whole


# Invalid arguments

X = np.arange(60.0).reshape(30, 2)
NAN = np.full((30, 2), np.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.density_coverage(X[:5], X), "real must hold at least 6 examples, got 5"),
        (lambda: metrics.density_coverage(X, X[:5]), "fake must hold at least 6 examples, got 5"),
        (lambda: metrics.density_coverage(X, X, k=0), "k must be a positive integer, got 0"),
        (lambda: metrics.density_coverage(X, X[:, :1]), "real and fake.*got 2 and 1"),
        (lambda: metrics.density_coverage(NAN, X), "real must be finite"),
        (lambda: metrics.authenticity(X[:1], X), "train must hold at least 2 examples, got 1"),
        (lambda: metrics.authenticity(X, X[:0]), "fake must hold at least 1 examples, got 0"),
        (lambda: metrics.authenticity(X, X[:, :1]), "train and fake.*got 2 and 1"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    assert_refused_in_one_line(call, message)
