"""The maximum mean discrepancy: double loops, closed forms, and every sample of a small world."""

import itertools

import numpy as np
import pytest
from assertions import assert_mean_close
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_tools import assert_refused_in_one_line, cubic, mmd_by_loops, rotation

from jaxdiff import metrics
from jaxdiff.metrics import blocks, kernels
from jaxdiff.metrics.mmd import across, variance_terms, within


def gaussian(u, v):
    return np.exp(-np.sum((u - v) ** 2) / (2 * 1.7**2))


KERNELS = {
    "polynomial": (kernels.polynomial(), cubic),
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
        (lambda: kernels.polynomial(degree=0), "degree must be a positive integer, got 0"),
        (lambda: kernels.polynomial(gamma=0.0), "gamma must be a number above 0, got 0"),
        (lambda: kernels.polynomial(coef=-1.0), "coef must be a number of at least 0, got -1"),
        (lambda: kernels.gaussian(0.0), "bandwidth must be a number above 0, got 0"),
        (lambda: kernels.gaussian("a"), "bandwidth must be a number above 0, got 'a'"),
    ],
)
def test_invalid_arguments_are_reported_in_one_line(call, message):
    assert_refused_in_one_line(call, message)
