"""Streamed moments, the Fréchet distance from them, and its extrapolation to infinite n."""

import functools

import numpy as np
import pytest
import scipy.linalg
from assertions import assert_mean_close
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tools import assert_refused_in_one_line

from jaxdiff import metrics

# Moments


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 9), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_batches_merge_to_the_moments_of_the_whole(seed, sizes):
    rng = np.random.default_rng(seed)
    batches = [rng.exponential(size=(size, 3)) + rng.normal(size=3) for size in sizes]
    whole = np.concatenate(batches)
    parts = [metrics.moments(batch) for batch in batches]
    for order in (parts, parts[::-1]):
        n, mean, scatter = functools.reduce(metrics.merge, order)
        assert n == len(whole)
        np.testing.assert_allclose(mean, whole.mean(axis=0), rtol=1e-12, atol=1e-14)
        expected = len(whole) * np.cov(whole, rowvar=False, ddof=0)
        np.testing.assert_allclose(scatter, expected, rtol=1e-12, atol=1e-12)


def test_a_small_variance_survives_a_large_mean_and_many_batches():
    """Σ xxᵀ − n μμᵀ has no correct digit here."""
    x = np.random.default_rng(0).normal(size=(4000, 2))
    parts = [metrics.moments(1e8 + batch) for batch in np.split(x, 400)]
    got = functools.reduce(metrics.merge, parts).covariance()
    np.testing.assert_allclose(got, np.cov(x, rowvar=False), rtol=1e-6, atol=1e-7)
    shifted = 1e8 + x
    naive = (shifted.T @ shifted - 4000 * np.outer(shifted.mean(0), shifted.mean(0))) / 3999
    assert np.abs(naive - np.cov(x, rowvar=False)).max() > 0.5


def test_events_are_flattened_and_float32_is_accumulated_in_float64():
    x = np.random.default_rng(0).normal(size=(20, 2, 3)).astype(np.float32)
    n, mean, scatter = metrics.moments(x)
    assert (n, mean.shape, scatter.shape) == (20, (6,), (6, 6))
    assert mean.dtype == scatter.dtype == np.float64
    cov = np.cov(x.reshape(20, 6).astype(np.float64), rowvar=False, ddof=0)
    np.testing.assert_allclose(metrics.moments(x).covariance(ddof=0), cov, rtol=1e-12)


@pytest.mark.parametrize("shapes", [((40, 2, 2), (30, 2, 2)), ((3, 5), (9, 5))])  # also singular
def test_frechet_distance_of_moments_is_that_of_the_sets(shapes):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=shapes[0]), 1 + 2 * rng.normal(size=shapes[1])
    expected = metrics.frechet_distance(x, y)
    a, b = metrics.moments(x), functools.reduce(metrics.merge, map(metrics.moments, np.split(y, 3)))
    for pair in ((a, b), (a, y), (x, b)):
        assert metrics.frechet_distance(*pair) == pytest.approx(expected, rel=1e-9)


def test_statistics_are_stored_in_the_layout_of_the_field(tmp_path):
    x = np.random.default_rng(0).normal(size=(30, 4))
    path = tmp_path / "folder" / "reference.npz"
    metrics.save_moments(path, metrics.moments(x))
    with np.load(path) as file:
        np.testing.assert_allclose(file["mu"], x.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(file["sigma"], np.cov(x, rowvar=False), rtol=1e-12)
    assert metrics.frechet_distance(metrics.load_moments(path), x) == pytest.approx(0, abs=1e-12)


def test_published_statistics_are_read_with_the_number_of_examples_stated(tmp_path):
    """ADM's files hold images too, and the statistics of sFID under other names."""
    x, images = np.random.default_rng(0).normal(size=(30, 4)), np.zeros((2, 8, 8, 3), np.uint8)
    cov, path = np.cov(x, rowvar=False), tmp_path / "virtual.npz"
    np.savez(path, arr_0=images, mu=x.mean(0) + 1, sigma=cov, mu_s=x.mean(0), sigma_s=4 * cov)
    loaded = metrics.load_moments(path, n=30)
    assert loaded.n == 30
    assert metrics.frechet_distance(loaded, x) == pytest.approx(4.0)
    spatial = metrics.load_moments(path, n=30, mu="mu_s", sigma="sigma_s")
    assert metrics.frechet_distance(spatial, x) == pytest.approx(np.trace(cov))  # (2 − 1)² each


# Features of sFID


def test_spatial_features_are_the_first_channels_at_every_position():
    x = np.arange(2 * 3 * 4 * 9).reshape(2, 3, 4, 9)
    got = metrics.spatial_features(x)
    expected = [
        [x[i, r, c, k] for r in range(3) for c in range(4) for k in range(7)] for i in (0, 1)
    ]
    np.testing.assert_array_equal(got, expected)


# Extrapolation


def test_the_extrapolation_is_a_line_through_distances_of_subsets():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(300, 3)), 0.5 + rng.normal(size=(80, 3))
    found = metrics.frechet_infinity(x, y, smallest=50, seed=3)
    sizes = np.linspace(50, 300, 15).astype(int)
    draw = np.random.default_rng(3)
    cy = np.cov(y, rowvar=False)
    distances = []
    for size in sizes:
        subset = x[draw.choice(300, size, replace=False)]
        root = scipy.linalg.sqrtm(np.cov(subset, rowvar=False) @ cy)
        trace = np.trace(np.cov(subset, rowvar=False) + cy - 2 * root).real
        distances.append(np.sum((subset.mean(0) - y.mean(0)) ** 2) + trace)
    slope, intercept = np.polyfit(1 / sizes, distances, 1)
    np.testing.assert_array_equal(found.sizes, sizes)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-9)
    assert found.value == pytest.approx(intercept, rel=1e-8)
    assert found.slope == pytest.approx(slope, rel=1e-8)
    assert found.distances[-1] == pytest.approx(metrics.frechet_distance(x, y), rel=1e-12)


@pytest.mark.parametrize(("n", "first"), [(40, 4), (1000, 100), (60_000, 5000)])
def test_published_sizes_start_at_a_tenth_or_at_5000(n, first):
    x = np.random.default_rng(0).normal(size=(n, 1))
    sizes = metrics.frechet_infinity(x, x[:9], seed=0).sizes
    assert (sizes[0], sizes[-1], len(sizes)) == (first, n, 15)


def exact_moments(mean, cov):
    """Moments of a distribution instead of a set: n only scales the scatter."""
    return metrics.Moments(10**9, np.asarray(mean), np.asarray(cov) * (10**9 - 1))


@pytest.mark.parametrize(("shift", "scale"), [(0.5, 1.3), (0.0, 2.0), (1.0, 1.0)])
def test_the_extrapolation_removes_the_bias_and_its_error_is_right(shift, scale):
    """Of isotropic Gaussians: d² = d (shift² + (scale − 1)²), whereas d²_n is larger by O(1/n)."""
    rng, dim, n = np.random.default_rng(0), 3, 200
    reference = exact_moments(np.zeros(dim), np.eye(dim))
    runs = [
        metrics.frechet_infinity(
            shift + scale * rng.normal(size=(n, dim)), reference, smallest=50, seed=rng
        )
        for _ in range(150)
    ]
    values = np.array([run.value for run in runs])
    expected = dim * (shift**2 + (scale - 1) ** 2)
    assert_mean_close(values, expected)
    errors = np.array([run.std_error for run in runs])
    # the standard deviation of 150 values is known to 1/√300, 6 %
    assert values.std(ddof=1) == pytest.approx(np.sqrt(np.mean(errors**2)), rel=5 / np.sqrt(300))


@pytest.mark.parametrize("width", [12, 300])
def test_features_of_more_dimensions_than_they_span_change_nothing(width):
    """An isometry of R³ into R^width makes all covariances singular."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 3)), 0.5 + 2 * rng.normal(size=(100, 3))
    isometry = np.linalg.qr(rng.normal(size=(width, 3)))[0].T
    found = metrics.frechet_infinity(x, y, num_sizes=3, seed=1)
    wide = metrics.frechet_infinity(x @ isometry, y @ isometry, num_sizes=3, seed=1)
    assert wide[:3] == pytest.approx(found[:3], rel=1e-6)


def test_the_distance_of_few_samples_is_biased_where_the_extrapolation_is_not():
    rng, reference = np.random.default_rng(0), exact_moments(np.zeros(8), np.eye(8))
    runs = [
        metrics.frechet_infinity(rng.normal(size=(200, 8)), reference, seed=rng, smallest=60)
        for _ in range(60)
    ]
    assert_mean_close([run.value for run in runs], 0.0)
    biased = np.array([run.distances[-1] for run in runs])
    assert biased.mean() > 20 * biased.std(ddof=1) / np.sqrt(60)


def test_a_generator_as_seed_advances():
    x = np.random.default_rng(0).normal(size=(60, 2))
    rng = np.random.default_rng(1)
    first, second = (metrics.frechet_infinity(x, x[:30], seed=rng).value for _ in range(2))
    assert first != second
    assert first == metrics.frechet_infinity(x, x[:30], seed=1).value


# Invalid arguments

X = np.arange(60.0).reshape(30, 2)


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: metrics.moments(X[:0]), "x must hold at least 1 examples, got 0"),
        (lambda p: metrics.moments(X[:1]).covariance(), "n must be greater than ddof = 1, got 1"),
        (
            lambda p: metrics.merge(metrics.moments(X), metrics.moments(X[:, :1])),
            "a and b.*2 and 1",
        ),
        (lambda p: metrics.frechet_distance(metrics.moments(X[:1]), X), "x must hold at least 2"),
        (lambda p: metrics.frechet_distance(X, metrics.moments(X[:, :1])), "x and y.*got 2 and 1"),
        (lambda p: metrics.load_moments(p / "none.npz"), "there is no file .*none.npz"),
        (lambda p: metrics.load_moments(write(p / "a.npz", mu=X)), "'mu' and 'sigma', got mu"),
        (
            lambda p: metrics.load_moments(write(p / "a.npz", mu=X[0], sigma=X[:2])),
            "n must be the number of examples of .*a.npz, an integer of at least 2, got None",
        ),
        (
            lambda p: metrics.load_moments(write(p / "a.npz", mu=X[0], sigma=X[:2], n=9), n=8),
            "n must be 9, which .*a.npz holds, got 8",
        ),
        (
            lambda p: metrics.load_moments(write(p / "a.npz", mu=X[0], sigma=X), n=9),
            r"vector and a square matrix .* got shapes \(2,\) and \(30, 2\)",
        ),
        (
            lambda p: metrics.load_moments(write(p / "a.npz", mu=X[0] + np.nan, sigma=X[:2]), n=9),
            "mu must be finite",
        ),
        (
            lambda p: metrics.load_moments(write(p / "a.npz", mu=np.array([{}]), sigma=X[:2])),
            "a.npz is not an npz file of plain arrays",
        ),
        (lambda p: metrics.spatial_features(X), r"maps \[n, h, w, c\] of at least 7 .*\(30, 2\)"),
        (lambda p: metrics.spatial_features(np.ones((1, 2, 2, 6))), "at least 7 channels"),
        (lambda p: metrics.spatial_features(X, channels=0), "channels must be a positive integer"),
        (lambda p: metrics.frechet_infinity(X[:1], X, seed=0), "x must hold at least 2 examples"),
        (lambda p: metrics.frechet_infinity(X, X[:1], seed=0), "y must hold at least 2 examples"),
        (lambda p: metrics.frechet_infinity(X, X[:, :1], seed=0), "x and y.*got 2 and 1"),
        (lambda p: metrics.frechet_infinity(X, X, seed=-1), "seed must be .* got -1"),
        (lambda p: metrics.frechet_infinity(X, X, seed=1.5), "seed must be .* got 1.5"),
        (lambda p: metrics.frechet_infinity(X, X, seed=0, num_sizes=2), "at least 3, got 2"),
        (lambda p: metrics.frechet_infinity(X, X, seed=0, smallest=1), "from 2 to 30, got 1"),
        (lambda p: metrics.frechet_infinity(X, X, seed=0, smallest=31), "from 2 to 30, got 31"),
        (lambda p: metrics.frechet_infinity(X, X, seed=0, smallest=29), "at least 3 sizes from 29"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(tmp_path, call, message):
    assert_refused_in_one_line(lambda: call(tmp_path), message)


@pytest.mark.parametrize("data", [b"not a zip", b""])
def test_a_broken_file_of_statistics_is_reported_in_one_line(tmp_path, data):
    path = tmp_path / "broken.npz"
    path.write_bytes(data)
    assert_refused_in_one_line(lambda: metrics.load_moments(path), "is not an npz file of plain")
