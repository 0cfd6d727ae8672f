"""Inception and Vendi scores against their definitions and their extreme values."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tools import assert_refused_in_one_line, rotation

from jaxdiff import metrics

# Inception score


def random_probabilities(rng, n, c):
    return rng.dirichlet(np.full(c, 0.4), size=n)


def inception_score_by_loops(p):
    marginal = [sum(row[c] for row in p) / len(p) for c in range(len(p[0]))]
    return np.exp(np.mean([scipy.stats.entropy(row, marginal) for row in p]))


@pytest.mark.parametrize(("n", "splits"), [(40, 1), (40, 10), (43, 10), (7, 7)])
def test_inception_score_matches_the_paper(n, splits):
    p = random_probabilities(np.random.default_rng(n), n, 5)
    got = metrics.inception_score(p, splits=splits, seed=4)
    order = np.random.default_rng(4).permutation(n)
    parts = [order[i * n // splits : (i + 1) * n // splits] for i in range(splits)]
    scores = [inception_score_by_loops(p[part]) for part in parts]
    assert got.mean == pytest.approx(np.mean(scores), rel=1e-10)
    assert got.sd == pytest.approx(np.std(scores), rel=1e-9, abs=1e-12)
    assert got.full == pytest.approx(inception_score_by_loops(p), rel=1e-10)


def test_inception_score_between_1_and_the_number_of_classes():
    one_hot = np.eye(5)[np.arange(50) % 5]
    assert metrics.inception_score(one_hot, splits=1, seed=0) == pytest.approx((5.0, 0.0, 5.0))
    equal = np.full((50, 5), 0.2)
    assert metrics.inception_score(equal, seed=0) == pytest.approx((1.0, 0.0, 1.0))
    half = np.concatenate([one_hot, one_hot[:, :1] * 0 + np.eye(5)[0]])  # a class in 3/5 of all
    expected = np.exp(-0.6 * np.log(0.6) - 0.4 * np.log(0.1))
    assert metrics.inception_score(half, seed=0).full == pytest.approx(expected)


def test_inception_score_depends_on_neither_order_nor_names_of_classes():
    rng = np.random.default_rng(0)
    p = random_probabilities(rng, 30, 4)
    found = metrics.inception_score(p, seed=0)
    assert metrics.inception_score(p[:, ::-1], seed=0) == pytest.approx(found, rel=1e-12)
    assert metrics.inception_score(rng.permutation(p), seed=0).full == pytest.approx(found.full)


def test_half_precision_probabilities_are_accepted():
    p = random_probabilities(np.random.default_rng(0), 20, 10)
    half = metrics.inception_score(p.astype(np.float16), seed=0).full
    assert half == pytest.approx(metrics.inception_score(p, seed=0).full, rel=1e-3)


# Vendi score


@pytest.mark.parametrize("shape", [(12, 30), (30, 12), (12, 3, 4)])
def test_vendi_matches_the_entropy_of_the_similarity_matrix(shape):
    x = np.random.default_rng(0).normal(size=shape)
    rows = [row.ravel() / np.sqrt(sum(row.ravel() ** 2)) for row in x]
    similarity = np.array([[a @ b for b in rows] for a in rows])
    values = np.linalg.svd(similarity, compute_uv=False)
    expected = np.exp(scipy.stats.entropy(values))  # which divides by the sum, n
    assert metrics.vendi(x) == pytest.approx(expected, rel=1e-10)


def test_vendi_of_orthogonal_of_identical_and_of_mixed_rows():
    rng = np.random.default_rng(0)
    r = rotation(rng, 9)
    assert metrics.vendi(r[:6]) == pytest.approx(6.0, rel=1e-12)
    assert metrics.vendi(np.ones((50, 3))) == pytest.approx(1.0, rel=1e-12)
    repeated = r[np.repeat([0, 1], [3, 1])]
    assert metrics.vendi(repeated) == pytest.approx(np.exp(scipy.stats.entropy([0.75, 0.25])))


@pytest.mark.parametrize("shape", [(500, 2), (2, 500)])
def test_the_smaller_of_both_similarity_matrices_is_decomposed(monkeypatch, shape):
    """With 50,000 examples the larger one takes 19 GiB."""
    decompose, shapes = np.linalg.eigvalsh, []
    monkeypatch.setattr(np.linalg, "eigvalsh", lambda m: shapes.append(m.shape) or decompose(m))
    metrics.vendi(np.random.default_rng(0).normal(size=shape))
    assert shapes == [(2, 2)]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_vendi_does_not_change_with_rotation_lengths_order_or_copies(seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(9, 4))
    found = metrics.vendi(x)
    assert 1 <= found <= 4
    scales = 10.0 ** rng.uniform(-160, 160, size=(9, 1))  # whose squares leave the range
    for other in (x @ rotation(rng, 4), scales * x, rng.permutation(x), np.repeat(x, 3, axis=0)):
        assert metrics.vendi(other) == pytest.approx(found, rel=1e-9)


# Invalid arguments

X = np.arange(20.0).reshape(10, 2)
P = np.full((12, 4), 0.25)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.inception_score(P[0], seed=0), r"shape \[n, c\], got shape \(4,\)"),
        (lambda: metrics.inception_score(P[:9], seed=0), "must hold at least 10 samples, got 9"),
        (lambda: metrics.inception_score(P, splits=0, seed=0), "splits must be a positive integer"),
        (lambda: metrics.inception_score(P * 2, seed=0), "sum to 1 .* differ from 1 by up to 1"),
        (lambda: metrics.inception_score(P - [1, 0, 0, -1], seed=0), "a minimum of -0.75"),
        (lambda: metrics.inception_score(P * np.nan, seed=0), "probabilities must be finite"),
        (lambda: metrics.inception_score(P, seed=True), "seed must be .* got True"),
        (lambda: metrics.vendi(X[:0]), "x must hold at least 1 examples, got 0"),
        (
            lambda: metrics.vendi(X * [[0.0]] * 2),
            "x must have a direction in every example, got 10",
        ),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    assert_refused_in_one_line(call, message)
