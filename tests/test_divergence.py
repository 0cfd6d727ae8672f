"""Divergences against traces by hand, on every code path."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close

from jaxdiff import divergence, losses
from jaxdiff.typing import InputError

PROBES = tuple(divergence.PROBES)
A = np.array([[2.0, 0.5, -0.3], [0.1, -1.0, 0.7], [0.4, -0.2, 0.5]])


def linear(x):
    return x @ jnp.asarray(A.T, x.dtype)


@pytest.mark.parametrize("event", [(1,), (3,), (8,), (9,), (2, 3, 4), (13, 7)])
def test_exact_divergence_of_a_field_that_couples_all_components(event):
    """f_i = x_i³ + x_i Σ x: ∂_i f_i = 3x_i² + Σ x + x_i."""

    def field(x):
        return x**3 + x * jnp.sum(x, axis=tuple(range(1, x.ndim)), keepdims=True)

    x = np.random.default_rng(0).normal(size=(5, *event)).astype(np.float32)
    (value, found), alone = jax.jit(lambda x: (divergence.exact(field, x), field(x)))(x)
    flat = np.float64(x).reshape(5, -1)
    expected = 3 * np.sum(flat**2, 1) + (flat.shape[1] + 1) * np.sum(flat, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(value, alone, rtol=1e-5)


@pytest.mark.parametrize("dim", [4, 40])
def test_gradients_pass_through_short_and_long_means_alike(dim):
    """tr ∇ tanh(wx) = w Σ sech²(wx), and its slope in w."""
    x = np.random.default_rng(0).normal(size=(3, dim)).astype(np.float32)

    def total(w):
        return jnp.sum(divergence.exact(lambda y: jnp.tanh(w * y), x)[1])

    z, w = np.float64(x), 0.7
    sech2 = 1 / np.cosh(w * z) ** 2
    expected = np.sum(sech2 - 2 * w * z * np.tanh(w * z) * sech2)
    slope, bend = jax.jit(jax.value_and_grad(jax.grad(total)))(w)
    np.testing.assert_allclose(slope, expected, rtol=1e-4)
    assert np.isfinite(bend)


@pytest.mark.parametrize("batch", [20_000, 40_000])
def test_exact_divergence_in_three_dimensions_is_right_for_every_batch_size(batch):
    """XLA on CPU (jaxlib 0.10.2) sums three adjacent derivatives of 32,769 rows incorrectly."""
    x = np.random.default_rng(0).normal(size=(batch, 3)).astype(np.float32)

    def field(y):
        return jnp.tanh(y @ jnp.asarray(A.T, y.dtype))

    found = jax.jit(lambda y: divergence.exact(field, y)[1])(x)
    slope = 1 - np.tanh(np.float64(x) @ A.T) ** 2
    np.testing.assert_allclose(found, slope @ np.diag(A), rtol=1e-4, atol=1e-4)


hutchinson = jax.jit(
    divergence.hutchinson, static_argnums=1, static_argnames=("probe", "num_probes")
)


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("num_probes", [1, 12])
def test_hutchinson_is_unbiased_for_every_distribution_of_directions(probe, num_probes):
    x = np.zeros((20_000 // num_probes, 3), np.float32)
    _, found = hutchinson(jax.random.key(1), linear, x, probe=probe, num_probes=num_probes)
    assert_mean_close(found, np.trace(A))


@pytest.mark.parametrize("probe", PROBES)
def test_directions_have_identity_covariance(probe):
    draw = jax.jit(divergence.draw_probes, static_argnames=("num_probes", "probe"))
    x = np.zeros((1, 3), np.float32)
    v = np.asarray(draw(jax.random.key(2), x, num_probes=20_000, probe=probe))
    products = v[:, 0, :, None] * v[:, 0, None, :]
    covariance, error = products.mean(0), products.std(0) / np.sqrt(20_000)
    assert np.all(np.abs(covariance - np.eye(3)) <= 5 * error + 1e-6)


def test_variances_of_the_estimates_match_the_textbook():
    """Signs: 2 Σ_{i≠j} S_ij²; Gaussian: 2‖S‖²; one axis: D Σ A_ii² − (tr A)²; S = ½(A + A')."""
    s = 0.5 * (A + A.T)
    expected = {
        "rademacher": 2 * (np.sum(s**2) - np.sum(np.diag(s) ** 2)),
        "gaussian": 2 * np.sum(s**2),
        "coordinate": 3 * np.sum(np.diag(A) ** 2) - np.trace(A) ** 2,
    }
    for probe, variance in expected.items():
        x = np.zeros((20_000, 3), np.float32)
        _, found = hutchinson(jax.random.key(3), linear, x, probe=probe, num_probes=1)
        assert_mean_close((np.asarray(found, np.float64) - np.trace(A)) ** 2, variance)


def test_a_diagonal_jacobian_needs_one_direction_of_signs():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(6, 4, 2)), jnp.float32)
    _, found = divergence.hutchinson(jax.random.key(0), jnp.sin, x)
    np.testing.assert_allclose(found, np.sum(np.cos(x), axis=(1, 2)), rtol=1e-5, atol=1e-5)


def test_implicit_by_hutchinson_equals_sliced_with_reduced_variance():
    x, key = (
        jnp.asarray(np.random.default_rng(0).normal(size=(64, 3)), jnp.float32),
        jax.random.key(5),
    )
    implicit = losses.ism(linear, x, divergence_fn=functools.partial(divergence.hutchinson, key))
    sliced = losses.ssm(key, linear, x, variance_reduction=True)
    np.testing.assert_allclose(implicit, sliced, rtol=1e-5)


def test_invalid_probes_are_refused():
    with pytest.raises(InputError, match="rademacher, gaussian, sphere, coordinate, got 'cube'"):
        divergence.hutchinson(jax.random.key(0), linear, jnp.zeros((1, 3)), probe="cube")
    with pytest.raises(InputError, match="num_probes must be a positive integer, got 0"):
        divergence.hutchinson(jax.random.key(0), linear, jnp.zeros((1, 3)), num_probes=0)
