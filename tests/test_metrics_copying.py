"""The test of data-copying, and k-means, against scipy and scikit-learn."""

import numpy as np
import pytest
import scipy.stats
from assertions import assert_mean_close, assert_variance_close
from metric_tools import assert_refused_in_one_line
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from jaxdiff import metrics
from jaxdiff.metrics import kmeans


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
    centres = kmeans.kmeans(rng, "x", x, 3)
    peer = KMeans(3, n_init=10, random_state=0).fit(x)
    assert inertia(x, centres) <= peer.inertia_ * (1 + 1e-6)
    cells = cdist(x, centres).argmin(axis=1)
    np.testing.assert_array_equal(kmeans.assign(x, centres), cells)
    means = [x[cells == cell].mean(axis=0) for cell in range(3)]
    np.testing.assert_allclose(centres, means, rtol=1e-12)


# Invalid arguments

X = np.arange(60.0).reshape(30, 2)
NAN = np.full((30, 2), np.nan)


@pytest.mark.parametrize(
    ("call", "message"),
    [
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
    assert_refused_in_one_line(call, message)
