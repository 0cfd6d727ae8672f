"""The kinds of prediction: round trips, and comparison with the papers' definitions."""

from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close
from process_table import PROCESSES, exact_scales

from jaxdiff.predictions import Denoised, Kind, from_denoised, to_denoised
from jaxdiff.typing import InputError

BATCH = 6
every_kind = pytest.mark.parametrize("kind", get_args(Kind))
every_process = pytest.mark.parametrize("name", PROCESSES)
forth = jax.jit(from_denoised, static_argnames="kind")
back = jax.jit(to_denoised, static_argnames="kind")


def normal(seed, shape=(BATCH, 3)):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def column(scale):
    return np.asarray(scale, np.float32)[:, None]


def scales_with_ends(name):
    """α and σ of a row from t = 0 to t = 1, with the floor under σ that every process has."""
    alpha, sigma = exact_scales(name, [0, 1e-4, 1e-2, 0.99, 0.9999, 1])
    return np.float32(alpha), np.float32(np.maximum(sigma, 1e-15))


def truth(alpha, sigma):
    x0, eps = normal(0), normal(1)
    return Denoised(x0, eps), column(alpha) * x0 + column(sigma) * eps


ALPHA, SIGMA = np.random.default_rng(2).uniform(0.2, 1.5, (2, BATCH)).astype(np.float32)


@every_kind
def test_every_kind_survives_a_round_trip(kind):
    denoised, x_t = truth(ALPHA, SIGMA)
    output = forth(denoised, x_t, ALPHA, SIGMA, kind=kind, data_std=0.5)
    again = back(output, x_t, ALPHA, SIGMA, kind=kind, data_std=0.5)
    np.testing.assert_allclose(again.x0, denoised.x0, atol=5e-6)
    np.testing.assert_allclose(again.eps, denoised.eps, atol=5e-6)


@every_kind
def test_both_views_of_any_output_add_up_to_the_noisy_data(kind):
    x_t, output = normal(3), normal(4)
    x0, eps = back(output, x_t, ALPHA, SIGMA, kind=kind, data_std=0.5)
    np.testing.assert_allclose(column(ALPHA) * x0 + column(SIGMA) * eps, x_t, atol=5e-6)
    again = forth(Denoised(x0, eps), x_t, ALPHA, SIGMA, kind=kind, data_std=0.5)
    np.testing.assert_allclose(again, output, atol=1e-5)


@every_process
@pytest.mark.parametrize("kind", ["v", "edm"])
def test_v_and_edm_keep_both_views_at_both_ends(kind, name):
    alpha, sigma = scales_with_ends(name)
    denoised, x_t = truth(alpha, sigma)
    output = forth(denoised, x_t, alpha, sigma, kind=kind, data_std=0.5)
    again = back(output, x_t, alpha, sigma, kind=kind, data_std=0.5)
    np.testing.assert_allclose(again.x0, denoised.x0, atol=3e-6)
    np.testing.assert_allclose(again.eps, denoised.eps, atol=3e-6)


def test_each_kind_matches_its_paper():
    denoised, x_t = truth(ALPHA, SIGMA)
    x0, eps = denoised
    a, s, d = column(ALPHA), column(SIGMA), 0.5
    expected = {
        "eps": eps,
        "x0": x0,
        "v": a * eps - s * x0,  # Salimans & Ho 2022, section 4
        "score": (a * x0 - x_t) / s**2,  # the gradient of log N(x_t; αx_0, σ²)
        "sigma_score": (a * x0 - x_t) / s,
        "edm": (x0 - a * d**2 * x_t / (a**2 * d**2 + s**2)) * np.sqrt((a * d) ** 2 + s**2) / s / d,
    }
    for kind in get_args(Kind):
        actual = forth(denoised, x_t, ALPHA, SIGMA, kind=kind, data_std=d)
        np.testing.assert_allclose(actual, expected[kind], rtol=1e-4, atol=1e-5)


def test_edm_is_karras_et_al_2022_equation_7_where_alpha_is_one():
    sigma, d = np.float32([0.002, 0.1, 0.5, 2.0, 20.0, 80.0]), 0.5
    x_t, output = column(sigma + 1) * normal(3), normal(4)
    x0 = back(output, x_t, np.ones(BATCH, np.float32), sigma, kind="edm", data_std=d).x0
    c_skip = d**2 / (column(sigma) ** 2 + d**2)
    c_out = column(sigma) * d / np.sqrt(column(sigma) ** 2 + d**2)
    np.testing.assert_allclose(x0, c_skip * x_t + c_out * output, rtol=1e-4, atol=1e-5)


def test_edm_is_minus_v_where_variance_is_preserved_and_data_has_unit_variance():
    alpha = np.float32([0.0, 0.1, 0.5, 0.8, 0.99, 1.0])
    sigma = np.sqrt(1 - alpha**2)
    denoised, x_t = truth(alpha, sigma)
    f = forth(denoised, x_t, alpha, sigma, kind="edm", data_std=1.0)
    np.testing.assert_allclose(f, -forth(denoised, x_t, alpha, sigma, kind="v"), atol=1e-6)


@every_process
def test_edm_target_has_unit_variance_at_every_noise_level(name):
    n, d = 3000, 0.3
    for t in (0.0, 0.2, 0.6, 1.0):
        alpha, sigma = exact_scales(name, t)
        x0, eps = d * normal(5, (n, 1)), normal(6, (n, 1))
        x_t = alpha * x0 + sigma * eps
        sigma = max(float(sigma), 1e-15)
        f = forth(Denoised(x0, eps), x_t, float(alpha), sigma, kind="edm", data_std=d)
        assert_mean_close(np.asarray(f) ** 2, 1.0)


def there_and_back(denoised, x_t, alpha, sigma, *, kind):
    output = from_denoised(denoised, x_t, alpha, sigma, kind=kind, data_std=0.5)
    x0, eps = to_denoised(x_t, x_t, alpha, sigma, kind=kind, data_std=0.5)
    return jnp.sum(output) + jnp.sum(x0) + jnp.sum(eps)


gradients = jax.jit(jax.grad(there_and_back, argnums=(0, 1, 2, 3)), static_argnames="kind")


@every_process
@every_kind
def test_gradients_are_finite_at_both_ends(kind, name):
    alpha, sigma = scales_with_ends(name)
    denoised, x_t = truth(alpha, sigma)
    chex.assert_tree_all_finite(gradients(denoised, x_t, alpha, sigma, kind=kind))


@pytest.mark.parametrize("kind", ["epsilon", "", "EPS"])
def test_an_unknown_kind_is_refused_with_the_known_ones(kind):
    x = jnp.ones((1, 2))
    with pytest.raises(InputError, match="eps, x0, v, score, sigma_score, edm"):
        to_denoised(x, x, 0.8, 0.6, kind=kind)
    with pytest.raises(InputError, match="eps, x0, v, score, sigma_score, edm"):
        from_denoised(Denoised(x, x), x, 0.8, 0.6, kind=kind)
