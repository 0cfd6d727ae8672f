"""The maximum mean discrepancy: double loops, closed forms, and every sample of a small world."""

import itertools

import numpy as np
import pytest
from assertions import assert_mean_close
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxdiff import metrics
from jaxdiff.metrics import blocks, kernels
from jaxdiff.metrics.mmd import across, variance_terms, within
from jaxdiff.typing import InputError


def rotation(rng, dim):
    return np.linalg.qr(rng.normal(size=(dim, dim)))[0]


def mmd_by_loops(x, y, k, estimator):
    def mean(a, b, *, distinct):
        pairs = [(i, j) for i in range(len(a)) for j in range(len(b)) if not (distinct and i == j)]
        return np.mean([k(a[i], b[j]) for i, j in pairs])

    own = estimator == "unbiased"
    return mean(x, x, distinct=own) + mean(y, y, distinct=own) - 2 * mean(x, y, distinct=False)


def polynomial(u, v):
    return (u @ v / len(u) + 1) ** 3


def gaussian(u, v):
    return np.exp(-np.sum((u - v) ** 2) / (2 * 1.7**2))


KERNELS = {
    "polynomial": (kernels.polynomial(), polynomial),
    "gaussian": (kernels.gaussian(1.7), gaussian),
    "other": (
        kernels.polynomial(degree=4, gamma=0.3, coef=0.5),
        lambda u, v: (0.3 * u @ v + 0.5) ** 4,
    ),
    "linear": (kernels.polynomial(degree=1, coef=0.0), lambda u, v: u @ v / len(u)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_is_its_definition_less_one_constant(name):
    kernel, definition = KERNELS[name]
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(6, 3))
    difference = np.array([[definition(u, v) for v in y] for u in x]) - kernel(x, y)
    np.testing.assert_allclose(difference, difference[0, 0], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("estimator", ["unbiased", "biased"])
@pytest.mark.parametrize("name", KERNELS)
def test_mmd_matches_double_loops(name, estimator):
    kernel, definition = KERNELS[name]
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(9, 2, 2)), 0.5 + rng.exponential(size=(7, 2, 2))
    got = metrics.mmd(x, y, kernel=kernel, estimator=estimator).value
    expected = mmd_by_loops(x.reshape(9, 4), y.reshape(7, 4), definition, estimator)
    assert got == pytest.approx(expected, rel=1e-10)


def test_kid_in_full_is_the_mmd_with_its_cubic_kernel():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(11, 5)), 1 + rng.normal(size=(8, 5))
    assert metrics.kid_full(x, y).value == pytest.approx(
        mmd_by_loops(x, y, polynomial, "unbiased"), rel=1e-10
    )


def test_kid_over_blocks_draws_each_without_replacement():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(30, 4)), 1 + rng.normal(size=(25, 4))
    got = metrics.kid(x, y, blocks=5, block_size=10, seed=7)
    draw = np.random.default_rng(7)
    values = []
    for _ in range(5):
        a, b = (z[draw.choice(len(z), 10, replace=False)] for z in (x, y))
        values.append(mmd_by_loops(a, b, polynomial, "unbiased"))
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


# Expectation and standard error


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize(("n", "m"), [(4, 4), (4, 5)])
def test_both_are_unbiased_over_every_possible_sample(n, m, same):
    """x from two atoms and y from two: all 2ⁿ 2ᵐ sets of samples, with their probabilities."""
    atoms_x, p_x = np.array([[0.3, 1.0], [1.2, -0.4]]), (0.3, 0.7)
    atoms_y, p_y = (atoms_x, p_x) if same else (np.array([[0.3, 1.0], [-0.9, 0.6]]), (0.6, 0.4))
    kernel, definition = KERNELS["polynomial"]

    def mean(atoms_a, p_a, atoms_b, p_b):
        values = np.array([[definition(u, v) for v in atoms_b] for u in atoms_a])
        return np.array(p_a) @ values @ np.array(p_b)

    exact = mean(atoms_x, p_x, atoms_x, p_x) + mean(atoms_y, p_y, atoms_y, p_y)
    exact -= 2 * mean(atoms_x, p_x, atoms_y, p_y)
    probabilities, values, variances = [], [], []
    for chosen in itertools.product((0, 1), repeat=n + m):
        i, j = np.array(chosen[:n]), np.array(chosen[n:])
        x, y = atoms_x[i], atoms_y[j]
        sums = within(x, kernel), within(y, kernel), across(x, y, kernel)
        probabilities.append(np.prod(np.take(p_x, i)) * np.prod(np.take(p_y, j)))
        values.append(metrics.mmd(x, y, kernel=kernel).value)
        variances.append(sum(variance_terms(*sums)))
    probabilities, values = np.array(probabilities), np.array(values)
    assert probabilities.sum() == pytest.approx(1)
    assert probabilities @ values == pytest.approx(exact, rel=1e-9, abs=1e-12)
    variance = probabilities @ (values - exact) ** 2
    assert probabilities @ np.array(variances) == pytest.approx(variance, rel=1e-9)


def expected_gaussian_kernel(delta, cov, bandwidth):
    """E exp(−‖z‖²/2s²) of z ~ N(δ, C)."""
    total = cov + bandwidth**2 * np.eye(len(delta))
    scale = np.sqrt(bandwidth ** (2 * len(delta)) / np.linalg.det(total))
    return scale * np.exp(-0.5 * delta @ np.linalg.solve(total, delta))


def expected_polynomial_kernel(mean_x, root_x, mean_y, root_y):
    """Gauss–Hermite quadrature, exact for cubics; the features are two."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    grid = np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    weight = np.outer(weights, weights).ravel() / (2 * np.pi)
    x, y = mean_x + grid @ root_x.T, mean_y + grid @ root_y.T
    return weight @ (x @ y.T / 2 + 1) ** 3 @ weight


@pytest.mark.parametrize("name", ["gaussian", "polynomial"])
def test_mmd_of_gaussians_matches_its_closed_form(name):
    rng = np.random.default_rng(6)
    zero, delta = np.zeros(2), np.array([0.4, -0.3])
    root_x, root_y = np.array([[1.0, 0.0], [0.5, 0.7]]), np.array([[0.8, 0.0], [-0.2, 1.3]])
    if name == "gaussian":
        kernel, (cx, cy) = KERNELS[name][0], (root_x @ root_x.T, root_y @ root_y.T)
        exact = expected_gaussian_kernel(zero, 2 * cx, 1.7)
        exact += expected_gaussian_kernel(zero, 2 * cy, 1.7)
        exact -= 2 * expected_gaussian_kernel(delta, cx + cy, 1.7)
    else:
        kernel = KERNELS[name][0]
        exact = expected_polynomial_kernel(zero, root_x, zero, root_x)
        exact += expected_polynomial_kernel(delta, root_y, delta, root_y)
        exact -= 2 * expected_polynomial_kernel(zero, root_x, delta, root_y)
    found = [
        metrics.mmd(
            rng.normal(size=(30, 2)) @ root_x.T,
            delta + rng.normal(size=(20, 2)) @ root_y.T,
            kernel=kernel,
        )
        for _ in range(1000)
    ]
    values, errors = np.array(found).T
    assert_mean_close(values, exact)
    assert_mean_close((values - exact) ** 2 - errors**2, 0.0)  # the squared error has no bias
    large = metrics.mmd(
        rng.normal(size=(1200, 2)) @ root_x.T,
        delta + rng.normal(size=(900, 2)) @ root_y.T,
        kernel=kernel,
    )
    assert abs(large.value - exact) < 5 * large.std_error < 0.5 * exact


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


# Invariances


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=15, deadline=None)
def test_rotation_translation_order_and_exchange(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(9, 4)), rng.exponential(size=(7, 4))
    r, shift = rotation(rng, 4), rng.normal(size=4)
    for name in ("gaussian", "polynomial"):
        kernel = KERNELS[name][0]
        found = metrics.mmd(x, y, kernel=kernel)
        moved = shift if name == "gaussian" else 0.0
        for a, b in (
            (x @ r + moved, y @ r + moved),
            (rng.permutation(x), rng.permutation(y)),
            (y, x),
        ):
            np.testing.assert_allclose(
                metrics.mmd(a, b, kernel=kernel), found, rtol=1e-9, atol=1e-12
            )


def test_the_gaussian_kernel_survives_a_large_offset():
    x, y = np.random.default_rng(0).normal(size=(2, 20, 3))
    kernel = kernels.gaussian(1.0)
    found = metrics.mmd(x + 1e6, y + 1e6, kernel=kernel)
    np.testing.assert_allclose(found, metrics.mmd(x, y, kernel=kernel), rtol=1e-7)


def test_a_wide_kernel_keeps_its_digits():
    """With k near 1 everywhere, sums of k would lose the 1e-12 that MMD is made of."""
    x, y = np.random.default_rng(0).normal(size=(2, 50, 3))
    wide = 1e6
    got = metrics.mmd(x, y, kernel=kernels.gaussian(wide)).value
    linear = metrics.mmd(x, y, kernel=kernels.polynomial(degree=1, gamma=1.0)).value
    assert got == pytest.approx(linear / wide**2, rel=1e-6)  # −‖x − y‖²/2s²: only ⟨x, y⟩ remains


@pytest.mark.parametrize("entries", [1, 50, 100])
def test_blocks_do_not_change_the_result(monkeypatch, entries):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(31, 3)), rng.normal(size=(19, 3)) + 0.5
    whole = [metrics.mmd(x, y, kernel=KERNELS[name][0]) for name in ("gaussian", "polynomial")]
    monkeypatch.setattr(blocks, "BLOCK_ENTRIES", entries)
    again = [metrics.mmd(x, y, kernel=KERNELS[name][0]) for name in ("gaussian", "polynomial")]
    np.testing.assert_allclose(again, whole, rtol=1e-10)


# Invalid arguments

X = np.arange(20.0).reshape(10, 2)
LINEAR = kernels.polynomial(degree=1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.mmd(X[:3], X, kernel=LINEAR), "x must hold at least 4 examples, got 3"),
        (lambda: metrics.mmd(X, X[:3], kernel=LINEAR), "y must hold at least 4 examples, got 3"),
        (lambda: metrics.mmd(X, X[:, :1], kernel=LINEAR), "x and y.*got 2 and 1"),
        (lambda: metrics.mmd(X, X, kernel=LINEAR, estimator="unbias"), "mean 'unbiased'"),
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
        (lambda: kernels.polynomial(degree=0), "degree must be a positive integer, got 0"),
        (lambda: kernels.polynomial(gamma=0.0), "gamma must be a number above 0, got 0"),
        (lambda: kernels.polynomial(coef=-1.0), "coef must be a number of at least 0, got -1"),
        (lambda: kernels.gaussian(0.0), "bandwidth must be a number above 0, got 0"),
        (lambda: kernels.gaussian("a"), "bandwidth must be a number above 0, got 'a'"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    with pytest.raises(InputError, match=message) as error:
        call()
    assert "\n" not in str(error.value)
