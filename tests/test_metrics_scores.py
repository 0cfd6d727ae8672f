"""Inception and Vendi scores, sliced distances, and the record of a figure's protocol."""

import dataclasses
import json

import numpy as np
import pytest
import scipy.stats
from assertions import assert_mean_close
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from jaxdiff import metrics
from jaxdiff.metrics import blocks
from jaxdiff.typing import InputError


def rotation(rng, dim):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


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


# Sliced distances


def squared_w2_on_a_line(x, y):
    """By optimal assignment of as many copies of each as make both numbers equal."""
    size = np.lcm(len(x), len(y))
    a, b = np.repeat(x, size // len(x)), np.repeat(y, size // len(y))
    cost = (a[:, None] - b[None, :]) ** 2
    return cost[linear_sum_assignment(cost)].mean()


@pytest.mark.parametrize(("n", "m"), [(5, 5), (4, 6), (7, 3), (1, 4)])
def test_the_distance_on_a_line_matches_optimal_assignment(n, m):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.exponential(size=m)
    got = metrics.sliced_wasserstein(x, y, directions=2, seed=0)  # ±1, the only ones
    assert got.value == pytest.approx(squared_w2_on_a_line(x, y), rel=1e-12)
    assert got.std_error == pytest.approx(0, abs=1e-12)
    assert metrics.mind(x, y, directions=2, seed=0).value == pytest.approx(3 * got.value)


@pytest.mark.parametrize(("n", "m"), [(6, 6), (4, 6)])
def test_the_sliced_distance_is_a_mean_over_unit_directions(n, m):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 3)), rng.exponential(size=(m, 3))
    got = metrics.sliced_wasserstein(x, y, directions=20, seed=5)
    theta = np.random.default_rng(5).normal(size=(20, 3))
    theta = [t / np.sqrt(sum(t**2)) for t in theta]
    values = [squared_w2_on_a_line(x @ t, y @ t) for t in theta]
    assert got.value == pytest.approx(np.mean(values), rel=1e-12)
    assert got.std_error == pytest.approx(np.std(values, ddof=1) / np.sqrt(20), rel=1e-10)
    mind = metrics.mind(x, y, directions=20, seed=5)
    assert mind == pytest.approx((9 * got.value, 9 * got.std_error), rel=1e-12)


@pytest.mark.parametrize("dim", [2, 7])
def test_shifted_and_scaled_sets_have_a_closed_form(dim):
    """Along θ: (θ·δ)² and (c − 1)² mean (θ·x)², whose means over θ are ‖δ‖²/d and ‖x‖²/d."""
    rng = np.random.default_rng(dim)
    x, delta = rng.normal(size=(30, dim)), rng.normal(size=dim)
    for y, exact in (
        (x + delta, delta @ delta / dim),
        (3 * x, 4 * np.mean(np.sum(x**2, axis=1)) / dim),
    ):
        value, std_error = metrics.sliced_wasserstein(x, y, seed=1)
        assert abs(value - exact) <= 5 * std_error < 0.5 * exact


def test_sliced_distance_of_gaussians():
    """E over θ of (θ·δ)² + (√θᵀC₁θ − √θᵀC₂θ)², by quadrature over the circle."""
    rng = np.random.default_rng(0)
    root_x, root_y = np.diag([1.0, 0.3]), np.array([[0.8, 0.0], [0.6, 1.5]])
    delta = np.array([0.5, -0.7])
    angle = np.arange(200) * np.pi / 200
    theta = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    spread = np.linalg.norm(theta @ root_x, axis=1) - np.linalg.norm(theta @ root_y, axis=1)
    exact = np.mean((theta @ delta) ** 2 + spread**2)
    values = [
        metrics.sliced_wasserstein(
            rng.normal(size=(4000, 2)) @ root_x.T,
            delta + rng.normal(size=(3000, 2)) @ root_y.T,
            directions=16,
            seed=rng,
        ).value
        for _ in range(30)
    ]
    assert_mean_close(values, exact)
    assert np.std(values) / np.sqrt(30) < 0.05 * exact


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10.0))
@settings(max_examples=15, deadline=None)
def test_the_sliced_distance_is_symmetric_and_ignores_order_and_translation(seed, scale):
    rng = np.random.default_rng(seed)
    x, y, shift = rng.normal(size=(9, 3)), rng.exponential(size=(6, 3)), rng.normal(size=3)

    def distance(a, b):
        return metrics.sliced_wasserstein(a, b, directions=10, seed=seed)

    found = distance(x, y)
    for a, b in ((y, x), (rng.permutation(x), rng.permutation(y)), (x + shift, y + shift)):
        assert distance(a, b) == pytest.approx(found, rel=1e-9)
    assert distance(scale * x, scale * y).value == pytest.approx(scale**2 * found.value, rel=1e-9)
    assert distance(x, x[::-1]).value == pytest.approx(0, abs=1e-20)


@pytest.mark.parametrize("entries", [1, 40, 100])
def test_blocks_of_directions_do_not_change_the_result(monkeypatch, entries):
    x, y = np.random.default_rng(0).normal(size=(2, 9, 3))
    whole = metrics.sliced_wasserstein(x, y[:7], directions=11, seed=0)
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", entries)
    again = metrics.sliced_wasserstein(x, y[:7], directions=11, seed=0)
    assert again == pytest.approx(whole, rel=1e-12)


# Protocol

STATED = {
    "n": 50_000,
    "reference": "cifar10 train",
    "n_reference": 50_000,
    "features": "Inception-v3, pool",
    "resize": "bilinear",
}
EVERYTHING = metrics.Protocol(
    **STATED,
    features_sha256="0123456789abcdef" * 4,
    ddof=1,
    dtype="float64",
    k=3,
    average="EMA 0.9999",
    solver="heun",
    evaluations=35,
    seed=7,
)


def test_the_text_of_a_protocol_is_one_line_with_every_field_that_is_known():
    text = str(EVERYTHING)
    assert "\n" not in text
    for field in dataclasses.fields(EVERYTHING):
        assert f"{field.name} {getattr(EVERYTHING, field.name)}" in text
    short = str(metrics.Protocol(**STATED))
    assert "None" not in short
    assert "solver" not in short


def test_a_result_carries_its_protocol_into_text_and_json():
    result = metrics.Result("FID", 2.345678, EVERYTHING, error=0.0312)
    assert str(result) == f"FID 2.346 ± 0.031 ({EVERYTHING})"
    assert str(metrics.Result("FID", 2.0, EVERYTHING)) == f"FID 2 ({EVERYTHING})"
    stored = json.loads(json.dumps(result.as_dict()))
    assert stored["value"] == 2.345678
    assert metrics.Protocol(**stored["protocol"]) == EVERYTHING


def test_seeds_are_averaged():
    values = [1.98, 2.10, 2.04, 1.91]
    mean, sd, n = metrics.over_seeds(values)
    assert (mean, sd, n) == (
        pytest.approx(sum(values) / 4),
        pytest.approx(np.sqrt(sum((v - 2.0075) ** 2 for v in values) / 3)),
        4,
    )


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
        (lambda: metrics.sliced_wasserstein(X, X[:, :1], seed=0), "x and y.*got 2 and 1"),
        (lambda: metrics.sliced_wasserstein(X, X, directions=1, seed=0), "at least 2, got 1"),
        (lambda: metrics.sliced_wasserstein(X, X, directions=9.0, seed=0), "at least 2, got 9.0"),
        (lambda: metrics.mind(X, X[:0], seed=0), "y must hold at least 1 examples, got 0"),
        (lambda: metrics.mind(X, X, seed=-3), "seed must be an integer of at least 0 .* got -3"),
        (lambda: metrics.over_seeds([1.0]), r"at least 2 numbers, one per seed, got shape \(1,\)"),
        (lambda: metrics.over_seeds([1.0, np.inf]), "values must be finite"),
        (lambda: metrics.over_seeds(["a", "b"]), "values must be an array of real numbers"),
        (lambda: metrics.Protocol(**{**STATED, "n": 0}), "n must be a positive integer, got 0"),
        (
            lambda: metrics.Protocol(**{**STATED, "n_reference": None}),
            "n_reference must be a posit",
        ),
        (lambda: metrics.Protocol(**STATED, k=0), "k must be a positive integer, got 0"),
        (lambda: metrics.Protocol(**STATED, evaluations=1.5), "evaluations must be .* got 1.5"),
        (lambda: metrics.Protocol(**{**STATED, "resize": " "}), "resize must be a line of text"),
        (lambda: metrics.Protocol(**STATED, dtype="a\nb"), "dtype must be a line of text, got"),
        (lambda: metrics.Protocol(**{**STATED, "features": None}), "features must be a line of"),
        (
            lambda: metrics.Protocol(**STATED, features_sha256="12"),
            "64 hexadecimal digits, got '12'",
        ),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
