"""KID over blocks and in full, and CMMD, against double loops and under equal distributions."""

import numpy as np
import pytest
from assertions import assert_mean_close
from metric_tools import assert_refused_in_one_line, cubic, mmd_by_loops

from jaxdiff import metrics


def test_kid_in_full_is_the_mmd_with_its_cubic_kernel():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(11, 5)), 1 + rng.normal(size=(8, 5))
    assert metrics.kid_full(x, y).value == pytest.approx(
        mmd_by_loops(x, y, cubic, "unbiased"), rel=1e-10
    )


def test_kid_over_blocks_draws_each_without_replacement():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(30, 4)), 1 + rng.normal(size=(25, 4))
    got = metrics.kid(x, y, blocks=5, block_size=10, seed=7)
    draw = np.random.default_rng(7)
    values = []
    for _ in range(5):
        a, b = (z[draw.choice(len(z), 10, replace=False)] for z in (x, y))
        values.append(mmd_by_loops(a, b, cubic, "unbiased"))
    assert got.mean == pytest.approx(np.mean(values), rel=1e-10)
    assert got.sd == pytest.approx(np.std(values), rel=1e-9)


def test_a_block_of_everything_is_the_full_estimate():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    mean, sd = metrics.kid(x, y, blocks=3, block_size=20, seed=0)
    assert mean == pytest.approx(metrics.kid_full(x, y).value, rel=1e-10)
    assert sd == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("estimator", ["biased", "unbiased"])
def test_cmmd_is_the_gaussian_mmd_of_directions(estimator):
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(9, 6)), 1 + rng.normal(size=(7, 6))
    unit_x, unit_y = (z / np.sqrt(np.sum(z**2, axis=1, keepdims=True)) for z in (x, y))
    expected = mmd_by_loops(
        unit_x, unit_y, lambda u, v: np.exp(-np.sum((u - v) ** 2) / 200), estimator
    )
    assert metrics.cmmd(x, y, estimator=estimator).value == pytest.approx(expected, rel=1e-8)
    scales = rng.uniform(1e-3, 1e3, size=(9, 1))
    assert metrics.cmmd(x * scales, y, estimator=estimator).value == pytest.approx(expected, 1e-8)


def test_cmmd_is_biased_by_default_as_published():
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 9, 6))
    assert metrics.cmmd(x, y) == metrics.cmmd(x, y, estimator="biased")
    assert metrics.cmmd(x, y).value > metrics.cmmd(x, y, estimator="unbiased").value


def test_the_error_where_both_distributions_are_equal():
    """There only the terms of second order remain; counted twice, the mean would be off by 2."""
    rng = np.random.default_rng(7)
    found = [metrics.kid_full(*rng.normal(size=(2, 40, 5))) for _ in range(1000)]
    values, errors = np.array(found).T
    assert_mean_close(values, 0.0)
    assert 1.0 < np.sqrt(np.mean(errors**2)) / values.std() < 1.2  # a negative part counts as 0


def test_kid_over_blocks_is_unbiased():
    rng = np.random.default_rng(8)
    means = [
        metrics.kid(*rng.normal(size=(2, 20, 3)), blocks=4, block_size=8, seed=rng).mean
        for _ in range(300)
    ]
    assert_mean_close(means, 0.0)


# Invalid arguments

X = np.arange(20.0).reshape(10, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.cmmd(X[:, :1], X), "x must have a direction in every example, got 1"),
        (lambda: metrics.cmmd(X, X[:3]), "y must hold at least 4"),
        (lambda: metrics.kid(X, X, seed=0), "x must hold at least 1000 examples, got 10"),
        (lambda: metrics.kid(X, X[:4], block_size=5, seed=0), "y must hold at least 5"),
        (lambda: metrics.kid(X, X[:, :1], block_size=5, seed=0), "x and y.*got 2 and 1"),
        (lambda: metrics.kid(X, X, blocks=0, seed=0), "blocks must be a positive integer, got 0"),
        (lambda: metrics.kid(X, X, block_size=1, seed=0), "block_size must be at least 2, got 1"),
        (
            lambda: metrics.kid(X, X, block_size=2.0, seed=0),
            "block_size must be a positive integer",
        ),
        (lambda: metrics.kid(X, X, block_size=5, seed="a"), "seed must be .* got 'a'"),
        (lambda: metrics.kid_full(X + np.nan, X), "x must be finite"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    assert_refused_in_one_line(call, message)
