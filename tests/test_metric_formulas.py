"""Metrics against naive formulas, closed forms of Gaussians, and their own errors."""

import itertools

import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.distance import cdist

from jaxdiff import metrics
from jaxdiff.metrics import kernels, neighbours
from jaxdiff.typing import InputError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(40, 6)), RNG.normal(0.3, 1.2, size=(31, 6))


def test_the_frechet_distance_is_the_formula_with_a_matrix_root():
    root = scipy.linalg.sqrtm(np.cov(X.T) @ np.cov(Y.T)).real
    expected = np.sum((X.mean(0) - Y.mean(0)) ** 2)
    expected += np.trace(np.cov(X.T) + np.cov(Y.T) - 2 * root)
    assert metrics.frechet_distance(X, Y) == pytest.approx(expected, rel=1e-9)


def test_moments_of_a_stream_are_those_of_the_whole_even_far_from_zero():
    far = X + 1e8
    merged = metrics.moments(far[:1])
    for start in range(1, len(far), 7):
        merged = metrics.merge(merged, metrics.moments(far[start : start + 7]))
    assert merged.n == len(far)
    np.testing.assert_allclose(merged.mean, far.mean(axis=0), rtol=1e-15)
    np.testing.assert_allclose(merged.covariance, np.cov(X.T), atol=1e-7)
    with pytest.raises(InputError, match="at least 2 examples, got 1"):
        _ = metrics.moments(X[:1]).covariance


def test_extrapolation_fits_a_line_and_removes_the_bias(monkeypatch):
    """Of the same Gaussian the distance is 0; that of n samples is biased by about d(d + 1)/4n."""
    x, y = RNG.normal(size=(3000, 8)), RNG.normal(size=(200_000, 8))
    found = metrics.frechet_infinity(x, y, seed=0)
    assert abs(found.value) < 5 * found.std_error
    assert metrics.frechet_distance(x[:300], y) > 5 * abs(found.value)
    # exact where the distance is exactly a line in 1/n
    monkeypatch.setattr("jaxdiff.metrics.frechet._between", lambda a, b: 2.0 + 3.0 / a.n)
    assert metrics.frechet_infinity(x, y, seed=0) == pytest.approx((2.0, 0.0), abs=1e-9)
    with pytest.raises(InputError, match="at least 3, from 2 on, got 2 from 300"):
        metrics.frechet_infinity(x, y, seed=0, num_sizes=2)


def naive_mmd(x, y, kernel, *, unbiased):
    def mean(a, b, *, same):
        pairs = itertools.product(range(len(a)), range(len(b)))
        values = [kernel(a[i], b[j]) for i, j in pairs if not (same and i == j)]
        return np.mean(values)

    within = mean(x, x, same=unbiased) + mean(y, y, same=unbiased)
    return within - 2 * mean(x, y, same=False)


def cubic(a, b):
    return (a @ b / len(a) + 1) ** 3


def gaussian(a, b):
    return np.exp(-np.sum((a - b) ** 2) / (2 * 1.7**2))


def test_kid_and_mmd_are_means_over_pairs(monkeypatch):
    monkeypatch.setattr(kernels, "BLOCK_ENTRIES", 100)  # several blocks of rows
    expected = naive_mmd(X, Y, cubic, unbiased=True)
    assert metrics.kid(X, Y).value == pytest.approx(expected, rel=1e-9)
    for estimator in ("unbiased", "biased"):
        expected = naive_mmd(X, Y, gaussian, unbiased=estimator == "unbiased")
        found = metrics.mmd(X, Y, bandwidth=1.7, estimator=estimator)
        assert found == pytest.approx(expected, rel=1e-9)


def test_the_error_of_kid_is_the_jackknife_and_covers_the_spread():
    found = metrics.kid(X[:12], Y[:9])
    left_x = [metrics.kid(np.delete(X[:12], i, 0), Y[:9]).value for i in range(12)]
    left_y = [metrics.kid(X[:12], np.delete(Y[:9], i, 0)).value for i in range(9)]
    variance = 11 * np.var(left_x) + 8 * np.var(left_y)
    assert found.std_error == pytest.approx(np.sqrt(variance), rel=1e-9)
    # E⟨x, y⟩ kernels in closed form: of a linear kernel MMD² is the squared distance of the means
    drawn = [
        metrics.kid(RNG.normal(size=(50, 2)), RNG.normal(1.0, 1.0, size=(70, 2)), degree=1, gamma=1)
        for _ in range(300)
    ]
    values = np.array([value for value, _ in drawn])
    spread = values.std(ddof=1)
    assert abs(values.mean() - 2.0) < 5 * spread / np.sqrt(300)
    predicted = np.mean([error for _, error in drawn])
    assert predicted == pytest.approx(spread, rel=5 / np.sqrt(2 * 300))


def test_mmd_of_gaussians_has_its_closed_form():
    """E exp(−‖x − y‖²/2b²) = (b²/(b² + s²))^(d/2) exp(−‖Δ‖²/2(b² + s²)), x − y ~ N(Δ, s²I)."""
    b2, d, shift, n = 4.0, 3, np.array([1.0, 0.0, -0.5]), 1500

    def mean(variance, delta):
        return (b2 / (b2 + variance)) ** (d / 2) * np.exp(-delta @ delta / (2 * (b2 + variance)))

    zero = np.zeros(d)
    expected = mean(2.0, zero) + mean(2 * 0.25, zero) - 2 * mean(1.25, shift)
    values = [
        metrics.mmd(
            RNG.normal(size=(n // 10, d)),
            shift + 0.5 * RNG.normal(size=(n // 10, d)),
            bandwidth=2.0,
        )
        for _ in range(60)
    ]
    assert abs(np.mean(values) - expected) < 5 * np.std(values, ddof=1) / np.sqrt(60)


def test_kid_over_blocks_is_the_mean_over_blocks():
    found = metrics.kid_over_blocks(X, Y, seed=1, num_blocks=3, size=len(Y))
    assert metrics.kid_over_blocks(Y, Y, seed=1, num_blocks=1, size=31) == (
        pytest.approx(metrics.kid(Y, Y).value),
        0.0,
    )
    generator, values = np.random.default_rng(1), []
    for _ in range(3):
        x = X[generator.choice(40, 31, replace=False)]
        values.append(
            naive_mmd(x, Y[generator.choice(31, 31, replace=False)], cubic, unbiased=True)
        )
    assert found == pytest.approx((np.mean(values), np.std(values, ddof=1)), rel=1e-9)
    with pytest.raises(InputError, match="x must hold at least 1000 examples, got 40"):
        metrics.kid_over_blocks(X, Y, seed=0)


@pytest.mark.parametrize("k", [1, 3])
def test_density_coverage_and_authenticity_are_their_definitions(monkeypatch, k):
    monkeypatch.setattr(neighbours, "BLOCK_ENTRIES", 100)
    among, to = cdist(X, X), cdist(Y, X)
    radius = np.sort(among, axis=1)[:, k]  # column 0 is the point itself
    inside = to < radius
    found = metrics.density_coverage(X, Y, k=k)
    assert found.density == pytest.approx(inside.sum() / (k * len(Y)), rel=1e-12)
    assert found.coverage == inside.any(axis=0).mean()
    nearest = np.sort(among, axis=1)[:, 1]
    authentic = [row.min() >= nearest[row.argmin()] for row in to]
    assert metrics.authentic_fraction(X, Y) == np.mean(authentic)
    assert 0 < np.mean(authentic) < 1


def test_copies_are_not_authentic():
    assert metrics.authentic_fraction(X, X) == 0.0
    assert metrics.density_coverage(X, X, k=2).coverage == 1.0


def test_the_inception_score_is_the_exponential_of_the_mean_divergence():
    p = RNG.dirichlet(np.ones(5), size=23)
    p[0] = [1, 0, 0, 0, 0]  # 0 log 0 is 0
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.nan_to_num(p * np.log(p / p.mean(axis=0)))
    assert metrics.inception_score(p, splits=1).value == pytest.approx(
        np.exp(terms.sum(axis=1).mean()), rel=1e-12
    )
    order = np.random.default_rng(7).permutation(23)
    parts = [metrics.inception_score(p[order[a:b]], splits=1).value for a, b in ((0, 12), (12, 23))]
    assert metrics.inception_score(p, splits=2, seed=7) == pytest.approx(
        (np.mean(parts), np.std(parts, ddof=1)), rel=1e-12
    )
    with pytest.raises(InputError, match="at least 0 and sum to 1"):
        metrics.inception_score(2 * p)


def test_the_vendi_score_is_the_same_from_either_gram_matrix():
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    values = np.linalg.eigvalsh(unit @ unit.T / len(X))
    values = values[values > 1e-12]
    expected = np.exp(-np.sum(values * np.log(values)))
    assert metrics.vendi_score(X) == pytest.approx(expected, rel=1e-9)
    wide = np.repeat(np.eye(4, 100), 3, axis=0)  # four directions, each three times
    assert metrics.vendi_score(7.0 * wide) == pytest.approx(4.0, rel=1e-9)
    with pytest.raises(InputError, match="no sample of zeros"):
        metrics.vendi_score(np.zeros((3, 2)))


def test_sliced_distance_of_sets_of_any_sizes_is_that_of_their_common_multiple():
    x, y = X[:6], Y[:4]
    found = metrics.sliced_wasserstein(x, y, seed=3, num_directions=50)
    directions = np.random.default_rng(3).normal(size=(50, 6))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    on_x = np.sort(np.repeat(x @ directions.T, 2, axis=0), axis=0)  # 12 of each
    on_y = np.sort(np.repeat(y @ directions.T, 3, axis=0), axis=0)
    values = np.mean((on_x - on_y) ** 2, axis=0)
    assert found.value == pytest.approx(values.mean(), rel=1e-12)
    assert found.std_error == pytest.approx(values.std(ddof=1) / np.sqrt(50), rel=1e-12)
    assert metrics.mind(x, y, seed=3, num_directions=50).value == pytest.approx(18 * found.value)
    with pytest.raises(InputError, match="num_directions must be at least 2, got 1"):
        metrics.sliced_wasserstein(x, y, seed=3, num_directions=1)


def test_sliced_distance_of_scaled_sets_has_its_closed_form():
    """W₂² of x and 3x along v is 4 mean ⟨v, x⟩², whose mean over v is 4 mean ‖x‖²/d."""
    found = metrics.sliced_wasserstein(X, 3 * X, seed=0, num_directions=4000)
    expected = 4 * np.mean(np.sum(X**2, axis=1)) / 6
    assert abs(found.value - expected) < 5 * found.std_error


ROTATION = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
DISTANCES = {
    "frechet": metrics.frechet_distance,
    "mmd": metrics.mmd,
    "density": lambda x, y: metrics.density_coverage(x, y).density,
    "authentic": metrics.authentic_fraction,
}


@pytest.mark.parametrize("name", DISTANCES)
def test_distances_do_not_depend_on_rotation_translation_or_order(name):
    distance, shift = DISTANCES[name], RNG.normal(size=6)
    moved = [RNG.permutation(a) @ ROTATION + shift for a in (X, Y)]
    assert distance(*moved) == pytest.approx(distance(X, Y), rel=1e-6)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: metrics.kid(X[:2], Y), "x must hold at least 3 examples, got 2"),
        (lambda: metrics.kid(X, Y[:, :5]), "x and y must have the same number of features"),
        (lambda: metrics.kid(X, Y, degree=0), "degree must be a positive integer, got 0"),
        (lambda: metrics.kid(X, Y, gamma=-1.0), "gamma must be positive and finite, got -1.0"),
        (lambda: metrics.kid(X, Y, offset=np.inf), "offset must be finite, got inf"),
        (lambda: metrics.mmd(X, Y, bandwidth=0.0), "bandwidth must be positive"),
        (lambda: metrics.mmd(X, Y, estimator="best"), "estimator must be one of"),
        (lambda: metrics.density_coverage(X, Y, k=0), "k must be a positive integer, got 0"),
        (lambda: metrics.density_coverage(X[:5], Y), "real must hold at least 6 examples, got 5"),
        (lambda: metrics.authentic_fraction(X[:1], Y), "train must hold at least 2 examples"),
        (lambda: metrics.inception_score(np.eye(3)), "at least 10 examples, got 3"),
        (lambda: metrics.merge(metrics.moments(X), metrics.moments(X[:, :2])), "same number of"),
    ],
)
def test_refusals_are_one_line(call, sentence):
    with pytest.raises(InputError, match=sentence) as refused:
        call()
    assert "\n" not in str(refused.value)
