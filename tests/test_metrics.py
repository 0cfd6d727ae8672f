"""The metrics against scipy, closed forms, and the papers' definitions written out as loops."""

import ast
import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tools import assert_refused_in_one_line, rotation

from jaxdiff import metrics
from jaxdiff.metrics import blocks, inception


def random_gaussian(rng, dim, rank=None):
    factor = rng.normal(size=(dim, rank or dim + 2)) * rng.uniform(0.1, 3.0)
    return rng.normal(size=dim), factor @ factor.T


# Fréchet distance


@pytest.mark.parametrize("dim", [1, 2, 5, 20])
@pytest.mark.parametrize("seed", range(3))
def test_frechet_from_moments_matches_scipy(seed, dim):
    rng = np.random.default_rng(seed)
    (mx, cx), (my, cy) = random_gaussian(rng, dim), random_gaussian(rng, dim)
    root = scipy.linalg.sqrtm(cx @ cy)  # the form of Heusel et al. 2017, eq. 6
    expected = np.sum((mx - my) ** 2) + np.trace(cx + cy - 2 * root).real
    assert metrics.frechet_from_moments(mx, cx, my, cy) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_frechet_distance_uses_mean_and_unbiased_covariance(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(40, 2, 3)), 2 + rng.gumbel(size=(30, 2, 3))
    fx, fy = x.reshape(40, 6), y.reshape(30, 6)
    cx, cy = np.cov(fx, rowvar=False, ddof=1), np.cov(fy, rowvar=False, ddof=1)
    root = scipy.linalg.sqrtm(cx @ cy)
    expected = np.sum((fx.mean(0) - fy.mean(0)) ** 2) + np.trace(cx + cy - 2 * root).real
    assert metrics.frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(0, 6))
@settings(max_examples=30, deadline=None)
def test_frechet_of_commuting_covariances(seed, dim, zeros):
    """C = R diag(s²) Rᵀ with a shared R: d² = ‖μx − μy‖² + ‖sx − sy‖², null directions included."""
    rng = np.random.default_rng(seed)
    mx, my = rng.normal(size=(2, dim))
    sx, sy = rng.uniform(0.01, 5.0, size=(2, dim))
    sx[: min(zeros, dim)] = 0.0
    r = rotation(rng, dim)
    got = metrics.frechet_from_moments(mx, (r * sx**2) @ r.T, my, (r * sy**2) @ r.T)
    assert got == pytest.approx(np.sum((mx - my) ** 2) + np.sum((sx - sy) ** 2), rel=1e-7)


def test_frechet_in_one_dimension_from_samples():
    x, y = np.array([0.0, 2.0, 4.0]), np.array([10.0, 11.0, 12.0])  # means 2, 11; std 2, 1
    assert metrics.frechet_distance(x, y) == pytest.approx(81.0 + 1.0)


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10.0))
@settings(max_examples=20, deadline=None)
def test_frechet_is_symmetric_rotation_invariant_and_scales(seed, scale):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(12, 4)), rng.exponential(size=(9, 4))
    distance = metrics.frechet_distance(x, y)
    r, shift = rotation(rng, 4), rng.normal(size=4)
    assert metrics.frechet_distance(y, x) == pytest.approx(distance, rel=1e-9)
    assert metrics.frechet_distance(x @ r + shift, y @ r + shift) == pytest.approx(distance, 1e-9)
    assert metrics.frechet_distance(scale * x, scale * y) == pytest.approx(
        scale**2 * distance, 1e-9
    )


@pytest.mark.parametrize("shape", [(50, 3), (5, 8, 8, 1), (2, 64)])  # the last two are singular
def test_frechet_of_a_set_with_itself_is_zero(shape):
    x = np.random.default_rng(0).normal(size=shape) * 100
    assert 0 <= metrics.frechet_distance(x, x) <= 1e-9 * x.var() * np.prod(shape[1:])
    assert metrics.frechet_distance(x, x[::-1]) <= 1e-9 * x.var() * np.prod(shape[1:])


def test_frechet_of_singular_covariances():
    """On orthogonal lines the product vanishes: tr Cx + tr Cy. A point mass: tr Cy."""
    rng = np.random.default_rng(0)
    u, v = rotation(rng, 5)[:, :2].T
    zero = np.zeros(5)
    line = metrics.frechet_from_moments(zero, 4 * np.outer(u, u), zero, 9 * np.outer(v, v))
    assert line == pytest.approx(13.0, rel=1e-12)
    parallel = metrics.frechet_from_moments(zero, 4 * np.outer(u, u), zero, 9 * np.outer(u, u))
    assert parallel == pytest.approx(1.0, rel=1e-12)
    assert metrics.frechet_distance(np.ones((3, 2)), [[0.0, 0.0], [2.0, 2.0]]) == pytest.approx(4.0)


def test_frechet_accepts_jax_arrays():
    x = jnp.array([[0.0], [2.0]])
    assert metrics.frechet_distance(x, x + 3) == pytest.approx(9.0)


# Precision and recall


def precision_recall_by_definition(real, fake, k):
    """Kynkäänniemi et al. 2019, section 2, literally."""

    def inside(phi, reference):
        for i, centre in enumerate(reference):
            others = [np.linalg.norm(centre - o) for j, o in enumerate(reference) if j != i]
            if np.linalg.norm(phi - centre) <= sorted(others)[k - 1]:
                return 1.0
        return 0.0

    precision = np.mean([inside(phi, real) for phi in fake])
    return precision, np.mean([inside(phi, fake) for phi in real])


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_precision_recall_matches_the_paper(seed, k):
    rng = np.random.default_rng(seed)
    real, fake = rng.normal(size=(23, 3)), 0.7 + 1.5 * rng.normal(size=(17, 3))
    expected = precision_recall_by_definition(real, fake, k)
    assert min(expected) > 0
    assert metrics.precision_recall(real, fake, k=k) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_ties_count_as_inside_as_in_the_paper(offset):
    """On integer points many distances equal a radius: rounding must not matter."""
    rng = np.random.default_rng(1)
    real, fake = rng.integers(0, 6, size=(25, 2)) * 1.0, rng.integers(0, 6, size=(20, 2)) * 1.0 + 1
    expected = precision_recall_by_definition(real, fake, 1)
    assert metrics.precision_recall(real + offset, fake + offset, k=1) == pytest.approx(expected)


def test_precision_recall_of_equal_and_of_far_sets():
    x = np.random.default_rng(0).normal(size=(30, 4))
    assert metrics.precision_recall(x, x) == (1.0, 1.0)
    assert metrics.precision_recall(x, x + 100) == (0.0, 0.0)
    copies = np.zeros((10, 2))  # radius 0: only copies are inside
    assert metrics.precision_recall(copies, copies) == (1.0, 1.0)
    assert metrics.precision_recall(copies, copies + 0.1) == (0.0, 0.0)


def test_a_dropped_mode_lowers_only_recall():
    rng = np.random.default_rng(0)
    modes = np.array([[0.0, 0.0], [50.0, 0.0]])
    real = np.concatenate([mode + rng.normal(size=(100, 2)) for mode in modes])
    fake = rng.normal(size=(100, 2))
    precision, recall = metrics.precision_recall(real, fake)
    assert precision > 0.85
    assert 0.35 < recall <= 0.5
    swapped = metrics.precision_recall(fake, real)
    assert swapped == (recall, precision)


# Nearest distances


def test_nearest_distances_match_brute_force():
    rng = np.random.default_rng(0)
    x, reference = rng.normal(size=(15, 4, 2)), rng.normal(size=(11, 4, 2))
    expected = [min(np.sqrt(np.sum((a - b) ** 2)) for b in reference) for a in x]
    np.testing.assert_allclose(metrics.nearest_distances(x, reference), expected, rtol=1e-12)


def test_a_copy_is_at_distance_zero_however_far_from_the_origin():
    reference = 1e6 + np.random.default_rng(0).normal(size=(20, 3))
    assert np.all(metrics.nearest_distances(reference[::-1], reference) == 0)
    near = metrics.nearest_distances(reference + np.array([1e-3, 0, 0]), reference)
    np.testing.assert_allclose(near, 1e-3, rtol=1e-6)


@pytest.mark.parametrize("entries", [1, 7, 50, 100])
def test_chunking_does_not_change_the_result(monkeypatch, entries):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(31, 3)), rng.normal(size=(19, 3)) + 0.5
    whole = metrics.precision_recall(x, y), metrics.nearest_distances(x, y)
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", entries)
    rows = [len(block) for _, block in blocks.squared_distances(x, y)]
    assert len(rows) > 1
    assert sum(rows) == 31
    assert all(r * 19 <= max(entries, 19) for r in rows)  # never more, except for a single row
    assert metrics.precision_recall(x, y) == whole[0]
    np.testing.assert_array_equal(metrics.nearest_distances(x, y), whole[1])


# Invalid arguments

NAN = np.array([[0.0], [np.nan], [1.0]])
X = np.arange(10.0).reshape(5, 2)
EYE, ZERO = np.eye(2), np.zeros(2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.frechet_distance(X[:1], X), "x must hold at least 2 examples, got 1"),
        (lambda: metrics.frechet_distance(X, X[:, :1]), "the same number of features, got 2 and 1"),
        (lambda: metrics.frechet_distance(X[:3, :1], NAN), "y must be finite, got 1 NaN"),
        (lambda: metrics.frechet_distance(X, "cat"), "y must be an array of real numbers"),
        (lambda: metrics.frechet_distance(X * 1j, X), "x must be an array of real numbers"),
        (lambda: metrics.frechet_distance(3.0, X), "got a scalar"),
        (lambda: metrics.frechet_distance(np.zeros((4, 0)), X), r"one feature.*\(4, 0\)"),
        (lambda: metrics.frechet_from_moments(ZERO, EYE, [0.0], EYE), r"\(2,\) and \(1,\)"),
        (lambda: metrics.frechet_from_moments(ZERO, EYE, ZERO, np.eye(3)), r"cov_y.*\(3, 3\)"),
        (lambda: metrics.frechet_from_moments(ZERO, [[1, 1], [0, 1]], ZERO, EYE), "symmetric"),
        (lambda: metrics.frechet_from_moments(ZERO, EYE, ZERO, -EYE), "cov_y.*semidefinite"),
        (lambda: metrics.frechet_from_moments(ZERO, EYE + np.inf, ZERO, EYE), "cov_x.*finite"),
        (lambda: metrics.precision_recall(X[:3], X), "real must hold at least 4 examples, got 3"),
        (lambda: metrics.precision_recall(X, X[:2], k=2), "fake must hold at least 3"),
        (lambda: metrics.precision_recall(X, X, k=0), "k must be a positive integer, got 0"),
        (lambda: metrics.precision_recall(X, X, k=1.5), "k must be a positive integer, got 1.5"),
        (lambda: metrics.precision_recall(X, np.zeros((5, 3))), "real and fake.*got 2 and 3"),
        (lambda: metrics.nearest_distances(X, X[:0]), "reference must hold at least 1"),
        (lambda: metrics.nearest_distances(X, X[:, :1]), "x and reference.*got 2 and 1"),
        (lambda: metrics.nearest_distances(NAN, NAN), "x must be finite"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    assert_refused_in_one_line(call, message)


@pytest.mark.parametrize(
    "path",
    sorted(set(Path(metrics.__file__).parent.glob("*.py")) - {Path(inception.__file__)}),
    ids=lambda p: p.stem,
)
def test_importing_needs_only_numpy(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names]
    others = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert others <= {"numpy", "jaxdiff"}
