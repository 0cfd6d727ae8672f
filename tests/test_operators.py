"""Measurement operators against numpy and scipy, their adjoints, and conjugate gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from corrector_tools import numbers
from scipy import ndimage

from jaxdiff.guidance import inverse
from jaxdiff.guidance.inverse.conjugate_gradients import Tolerance, solve
from jaxdiff.guidance.inverse.measurement import measure
from jaxdiff.typing import InputError

KERNEL = np.float32([0.1, 0.2, 0.4, 0.2, 0.1])
KNOWN = np.random.default_rng(5).random((4, 6, 3)) < 0.4
A = numbers(5, 72, seed=2)


def published_blur(x):
    for axis in (1, 2):
        x = ndimage.convolve1d(x, KERNEL, axis=axis, mode="wrap")
    return x


OPERATORS = {
    "matrix": (inverse.matrix(A), lambda x: x.reshape(len(x), -1) @ A.T),
    "mask": (inverse.mask(KNOWN), lambda x: x[:, KNOWN]),
    "downsample": (
        inverse.downsample(2),
        lambda x: x.reshape(-1, 2, 2, 3, 2, 3).mean(axis=(2, 4)),
    ),
    "blur": (inverse.blur(KERNEL), published_blur),
    "grey": (inverse.grey(), lambda x: x.mean(-1, keepdims=True)),
    "grey_weighted": (
        inverse.grey(np.float32([0.3, 0.6, 0.1])),
        lambda x: (x @ np.float32([0.3, 0.6, 0.1]))[..., None],
    ),
    "saturated": (
        inverse.saturated(lambda x: 2 * x, high=0.5),
        lambda x: np.clip(2 * x, -1.0, 0.5),
    ),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_operator_equals_numpy_and_has_the_right_adjoint(name):
    """⟨u, A' v⟩ = ⟨A'ᵀ u, v⟩; a linear operator's derivative is itself, and its matrix is found."""
    operator, published = OPERATORS[name]
    x, v = numbers(2, 4, 6, 3), numbers(2, 4, 6, 3, seed=1)
    expected = published(x)
    y = expected[0] + 1
    found = measure(operator, x, y)
    np.testing.assert_allclose(found.residual, y - expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(operator(x), expected, rtol=1e-5, atol=1e-5)
    image = found.push(v)
    u = numbers(*image.shape, seed=3)
    back = found.pull(u)
    axes = tuple(range(1, image.ndim))
    np.testing.assert_allclose(
        np.sum(u * image, axis=axes), np.sum(back * v, axis=(1, 2, 3)), rtol=1e-3, atol=1e-4
    )
    if name != "saturated":
        np.testing.assert_allclose(image, published(v), rtol=1e-4, atol=1e-5)
        whole = inverse.matrix_of(operator, (4, 6, 3))
        flat = v.reshape(2, -1) @ np.asarray(whole).T
        np.testing.assert_allclose(flat, published(v).reshape(2, -1), rtol=1e-3, atol=1e-5)


def test_derivative_of_a_saturated_measurement_is_zero_where_it_saturates():
    x = jnp.array([[0.1, 3.0]])
    found = measure(inverse.saturated(lambda x: 2 * x), x, jnp.zeros(2))
    np.testing.assert_array_equal(found.push(jnp.ones((1, 2))), [[2.0, 0.0]])


def test_masks_have_the_stated_box_and_fraction():
    box = inverse.box_mask((4, 6, 3), corner=(1, 2), size=(2, 3))
    expected = np.ones((4, 6, 3), bool)
    expected[1:3, 2:5] = False
    np.testing.assert_array_equal(box, expected)
    masks = [inverse.random_mask(jax.random.key(k), (8, 8, 3), fraction=0.25) for k in (0, 0, 1)]
    assert [m.sum() for m in masks] == [48] * 3
    assert all((m == m[..., :1]).all() for m in masks)
    np.testing.assert_array_equal(*masks[:2])
    assert (masks[0] != masks[2]).any()


def test_kernel_is_a_normalised_gaussian():
    expected = np.exp(-0.5 * (np.arange(-3, 4) / 1.5) ** 2)
    got = inverse.gaussian_kernel(7, std=1.5)
    np.testing.assert_allclose(got, expected / expected.sum(), rtol=1e-5)


# Conjugate gradients

ROOT = np.random.default_rng(0).normal(size=(3, 6, 6))
MATRICES = ROOT @ ROOT.transpose(0, 2, 1) + np.array([0.1, 1.0, 5.0])[:, None, None] * np.eye(6)
B = np.random.default_rng(1).normal(size=(3, 6))


@jax.jit
def solved(matrices, b, relative):
    def product(u):
        return jnp.einsum("bij,bj->bi", matrices, u, precision="highest")

    return solve(product, b, Tolerance(relative, 50))


@pytest.mark.usefixtures("x64")
def test_solution_and_its_derivative_equal_numpys():
    expected = np.linalg.solve(MATRICES, B[..., None])[..., 0]
    np.testing.assert_allclose(solved(MATRICES, B, 1e-13), expected, rtol=1e-9)
    v = np.random.default_rng(2).normal(size=MATRICES.shape)
    _, forward = jax.jvp(lambda m: solved(m, B, 1e-13), (MATRICES,), (v,))
    by_hand = -np.linalg.solve(MATRICES, (v @ expected[..., None]))[..., 0]
    np.testing.assert_allclose(forward, by_hand, rtol=1e-8, atol=1e-10)
    gradient = jax.grad(lambda b: jnp.sum(solved(MATRICES, b, 1e-13) * v[:, 0]))(B)
    np.testing.assert_allclose(
        gradient, np.linalg.solve(MATRICES, v[:, 0, :, None])[..., 0], rtol=1e-8
    )


@pytest.mark.usefixtures("x64")
def test_each_example_meets_its_own_tolerance_and_then_stays():
    loose = np.asarray(solved(MATRICES, B, 1e-2))
    residual = B - np.einsum("bij,bj->bi", MATRICES, loose)
    relative = np.linalg.norm(residual, axis=1) / np.linalg.norm(B, axis=1)
    assert (relative <= 1e-2).all()
    assert (relative[1:] > 1e-4).all()
    swapped = MATRICES.copy()
    swapped[0] = 1e3 * np.diag(np.arange(1, 7) ** 4)  # needs more steps than the others
    among_others = np.asarray(solved(swapped, B, 1e-2))
    np.testing.assert_array_equal(among_others[1:], loose[1:])


def test_systems_without_a_solution_stop():
    """Zero, negative and vanishing systems, as at σ = 0: the result is finite."""
    diagonal = np.float32([[1.0, 2.0], [-1.0, -2.0], [0.0, 0.0], [1e-30, 1e-30]])
    matrices = diagonal[:, :, None] * np.eye(2, dtype=np.float32)
    u = solved(matrices, np.float32([[1, 1], [1, 1], [1, 1], [1e-8, 0]]), np.float32(1e-6))
    np.testing.assert_allclose(u[0], [1, 0.5], rtol=1e-5)
    np.testing.assert_array_equal(u[1:3], np.zeros((2, 2)))
    assert np.isfinite(u).all()
    np.testing.assert_array_equal(solved(matrices, np.zeros((4, 2), np.float32), 1e-6), 0 * u)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: inverse.matrix(np.ones(3)), "A must be a matrix [M, D], got shape (3,)"),
        (lambda: inverse.mask(np.ones(3)), "known must be Boolean and somewhere true, got float64"),
        (lambda: inverse.mask(np.zeros(3, bool)), "known must be Boolean and somewhere true"),
        (
            lambda: inverse.mask(np.ones(3, bool))(jnp.ones((2, 4))),
            "x must have the shape of the mask, (3,), got (4,)",
        ),
        (
            lambda: inverse.box_mask((4, 4, 1), corner=(2, 2), size=(3, 1)),
            "the box must lie inside of (4, 4), got corner (2, 2), size (3, 1)",
        ),
        (
            lambda: inverse.random_mask(jax.random.key(0), (4, 4, 1), fraction=1.5),
            "fraction must be in (0, 1], got 1.5",
        ),
        (
            lambda: inverse.random_mask(jax.random.key(0), (4, 4, 1), fraction=0.0),
            "fraction must be in (0, 1] and keep a place, got 0.0",
        ),
        (lambda: inverse.downsample(0), "factor must be a positive integer, got 0"),
        (
            lambda: inverse.downsample(2)(jnp.ones((1, 3, 4, 1))),
            "factor must divide each axis of space, (3, 4), got 2",
        ),
        (lambda: inverse.blur(np.ones(2)), "kernel must be a vector of odd length, got shape (2,)"),
        (lambda: inverse.gaussian_kernel(3, std=0.0), "std must be positive and finite, got 0.0"),
    ],
)
def test_invalid_operators_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
