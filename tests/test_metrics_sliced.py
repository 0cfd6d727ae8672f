"""Sliced distances and MIND against optimal assignments and closed forms."""

import numpy as np
import pytest
from assertions import assert_mean_close
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tools import assert_refused_in_one_line
from scipy.optimize import linear_sum_assignment

from jaxdiff import metrics
from jaxdiff.metrics import blocks


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


# Invalid arguments

X = np.arange(20.0).reshape(10, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.sliced_wasserstein(X, X[:, :1], seed=0), "x and y.*got 2 and 1"),
        (lambda: metrics.sliced_wasserstein(X, X, directions=1, seed=0), "at least 2, got 1"),
        (lambda: metrics.sliced_wasserstein(X, X, directions=9.0, seed=0), "at least 2, got 9.0"),
        (lambda: metrics.mind(X, X[:0], seed=0), "y must hold at least 1 examples, got 0"),
        (lambda: metrics.mind(X, X, seed=-3), "seed must be an integer of at least 0 .* got -3"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    assert_refused_in_one_line(call, message)
