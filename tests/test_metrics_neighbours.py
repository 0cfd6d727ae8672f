"""Density, coverage, authenticity and data-copying against their definitions and expectations."""

import numpy as np
import pytest
import scipy.stats
from assertions import assert_mean_close, assert_variance_close
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from jaxdiff import metrics
from jaxdiff.metrics import blocks, kmeans
from jaxdiff.typing import InputError


def rotation(rng, dim):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


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


# Data-copying


def clusters(rng, n, dim=3):
    """Three clusters too far apart for any other partition, with 1/2, 1/3 and 1/6 of n."""
    label = np.repeat([0, 1, 2], [n // 2, n // 3, n // 6])
    centres = np.array([[0.0, 0.0], [60.0, 0.0], [0.0, 90.0]])
    x = rng.normal(size=(len(label), dim))
    x[:, :2] += centres[label]
    return x, label


def data_copying_by_definition(train, test, fake):
    """Meehan et al. 2020 with the cells of known labels."""
    scores, weights = [], []
    for cell in (0, 1, 2):
        known = train[0][train[1] == cell]
        near_test = cdist(test[0][test[1] == cell], known).min(axis=1)
        near_fake = cdist(fake[0][fake[1] == cell], known).min(axis=1)
        n, m = len(near_test), len(near_fake)
        u = scipy.stats.mannwhitneyu(near_fake, near_test).statistic
        scores.append((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))
        weights.append(n)
    return np.average(scores, weights=weights), scores


@pytest.mark.parametrize("noise", [0.1, 3.0])  # copies, and underfitting
def test_data_copying_matches_the_paper(noise):
    rng = np.random.default_rng(0)
    train, test = clusters(rng, 180), clusters(rng, 120)
    x, label = clusters(rng, 180)
    fake = (train[0] + noise * rng.normal(size=x.shape) if noise < 1 else x + noise, label)
    score, cells = data_copying_by_definition(train, test, fake)
    got = metrics.data_copying(train[0], test[0], fake[0], seed=0)
    assert got.score == pytest.approx(score, rel=1e-10)
    np.testing.assert_allclose(sorted(got.z), sorted(cells), rtol=1e-10)
    np.testing.assert_allclose(sorted(got.weights), [1 / 6, 1 / 3, 1 / 2])
    assert np.all(got.z < 0) if noise < 1 else np.all(got.z > 0)


def test_cells_with_few_samples_are_left_out():
    rng = np.random.default_rng(0)
    train, test = clusters(rng, 180), clusters(rng, 120)
    x, label = clusters(rng, 120)
    fake = x[label < 2]
    got = metrics.data_copying(train[0], test[0], fake, seed=0)
    np.testing.assert_allclose(sorted(got.weights), [0.4, 0.6])
    all_cells = metrics.data_copying(train[0], test[0], x, seed=0, least=0)
    assert len(all_cells.z) == 3
    assert (
        len(metrics.data_copying(train[0], test[0], x, seed=0, least=20).z) == 2
    )  # 20 in the third


def test_the_z_of_equal_distributions_has_mean_0_and_variance_1():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(30, 2))
    z = [
        metrics.data_copying(
            train, rng.normal(size=(25, 2)), rng.normal(size=(35, 2)), cells=1, seed=0
        ).score
        for _ in range(400)
    ]
    assert_mean_close(z, 0.0)
    assert_variance_close(z, 1.0, mean=0.0)


def test_ties_count_one_half():
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(30, 2)), rng.normal(size=(25, 2))
    assert metrics.data_copying(train, test, test, cells=1, seed=0).score == 0.0
    assert metrics.data_copying(train, train, train, cells=1, seed=0).score == 0.0


def test_many_dimensions_are_projected_to_principal_components():
    rng = np.random.default_rng(0)
    scales = np.linspace(3.0, 0.1, 8)
    train, test, fake = (scales * rng.normal(size=(size, 8)) for size in (90, 60, 70))
    pca = PCA(n_components=3, svd_solver="full").fit(train)
    projected = [pca.transform(x) for x in (train, test, fake)]
    got = metrics.data_copying(train, test, fake, cells=1, components=3, seed=0)
    expected = metrics.data_copying(*projected, cells=1, seed=0)
    assert got.score == pytest.approx(expected.score, rel=1e-12)
    whole = metrics.data_copying(train, test, fake, cells=1, seed=0)
    assert whole.score != pytest.approx(got.score, abs=0.01)


def inertia(x, centres):
    return cdist(x, centres, "sqeuclidean").min(axis=1).sum()


@pytest.mark.parametrize("seed", range(3))
def test_kmeans_is_as_good_as_scikit_learns_and_a_fixed_point(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 2)) + rng.integers(0, 3, size=(60, 1)) * 2.5
    centres = kmeans.kmeans(rng, x, 3)
    peer = KMeans(3, n_init=10, random_state=0).fit(x)
    assert inertia(x, centres) <= peer.inertia_ * (1 + 1e-6)
    cells = cdist(x, centres).argmin(axis=1)
    np.testing.assert_array_equal(kmeans.assign(x, centres), cells)
    means = [x[cells == cell].mean(axis=0) for cell in range(3)]
    np.testing.assert_allclose(centres, means, rtol=1e-12)


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
        (lambda: metrics.data_copying(X, X[:, :1], X, seed=0), "train and test.*got 2 and 1"),
        (lambda: metrics.data_copying(X, X, X[:, :1], seed=0), "train and fake.*got 2 and 1"),
        (lambda: metrics.data_copying(X, X, NAN, seed=0), "fake must be finite"),
        (
            lambda: metrics.data_copying(X, X, X, cells=0, seed=0),
            "cells must be a positive integer",
        ),
        (
            lambda: metrics.data_copying(X, X, X, components=0, seed=0),
            "components must be a positiv",
        ),
        (lambda: metrics.data_copying(X, X, X, least=-1, seed=0), "least must be .* 0, got -1"),
        (lambda: metrics.data_copying(X, X, X, seed=None), "seed must be .* got None"),
        (
            lambda: metrics.data_copying(np.ones((9, 2)), X, X, seed=0),
            "train must hold at least 3 different examples, got 1",
        ),
        (
            lambda: metrics.data_copying(X, X[:2], X, seed=0),
            "every cell must hold training and held-out examples, got 1. and 0 in one of 3",
        ),
        (
            lambda: metrics.data_copying(X, X, X, least=30, seed=0),
            "fake must hold more than 30 examples in some cell",
        ),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
