"""Exact denoisers against integrals and against derivatives of the exact log density."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import float64
from one_program import one_of
from process_table import PROCESSES, exact_scales

from jaxdiff import oracles
from jaxdiff.typing import InputError

every_process = pytest.mark.parametrize("name", PROCESSES)

WEIGHTS, CENTRES, STDS = np.array([0.3, 0.7]), np.array([-1.5, 0.8]), np.array([0.2, 0.5])
MEAN = np.array([0.5, -1.0, 2.0])
COV = np.array([[1.0, 0.6, -0.3], [0.6, 0.8, 0.1], [-0.3, 0.1, 0.5]])
MODES = np.array([[1.0, 0.0, -1.0], [-1.0, 2.0, 0.5]])
COVS = np.array([COV, [[0.4, -0.1, 0.0], [-0.1, 0.2, 0.1], [0.0, 0.1, 0.9]]])


def normal(x, mean, std):
    return np.exp(-0.5 * ((x - mean) / std) ** 2) / std


DENSITIES = {
    "gaussian": lambda x0: normal(x0, 0.7, 0.4),
    "mixture": lambda x0: np.sum(WEIGHTS * normal(x0[:, None], CENTRES, STDS), axis=1),
}
DENSITIES["full"] = DENSITIES["mixture"]


def conditional_means(density, x_t, alpha, sigma):
    """E[x_0 | x_t] and E[ε | x_t] as ratios of integrals over x_0."""
    x0 = np.linspace(-6, 6, 6001)
    eps = (x_t[:, None] - alpha[:, None] * x0) / sigma[:, None]
    joint = density(x0) * normal(eps, 0.0, 1.0)
    total = joint.sum(1)  # exponentially convergent, as the integrand vanishes at both ends
    return (x0 * joint).sum(1) / total, (eps * joint).sum(1) / total


ORACLES = {
    "gaussian": lambda process, one_d: oracles.gaussian(
        process, *([jnp.array([0.7]), jnp.array([[0.16]])] if one_d else map(now, (MEAN, COV)))
    ),
    "mixture": lambda process, one_d: oracles.mixture(
        process, now(WEIGHTS), now(CENTRES[:, None] if one_d else MODES), now(STDS)
    ),
    "full": lambda process, one_d: oracles.mixture(
        process, now(WEIGHTS), *map(now, FULL_1D if one_d else (MODES, COVS))
    ),
}
FULL_1D = CENTRES[:, None], STDS[:, None, None] ** 2


def now(values):
    """In the current precision: JAX caches the one in which a numpy array was first traced."""
    return jnp.array(values.tolist())


@functools.partial(jax.jit, static_argnums=0)
def views(data, process, x_t, t):
    return ORACLES[data](process, x_t.shape[1] == 1)(x_t, t)


@every_process
@pytest.mark.parametrize("data", DENSITIES)
def test_conditional_means_equal_their_integrals(data, name):
    t = np.repeat([0.1237, 0.6213, 1.0], 5)
    alpha, sigma = exact_scales(name, t)
    x_t = alpha * np.tile(np.linspace(-2, 2, 5), 3) + sigma * np.tile([0.5, -1, 0, 2, -0.3], 3)
    with float64():
        x0, eps = jax.device_get(views(data, one_of(name), x_t[:, None], t))
    expected_x0, expected_eps = conditional_means(DENSITIES[data], x_t, alpha, sigma)
    # The chains' tables are float32, which limits the accuracy.
    np.testing.assert_allclose(x0[:, 0], expected_x0, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(eps[:, 0], expected_eps, rtol=1e-4, atol=1e-4)


def log_normal(x, mean, cov):
    """Up to a constant."""
    away = x - mean
    return -0.5 * (away @ jnp.linalg.solve(cov, away) + jnp.linalg.slogdet(cov)[1])


def log_gaussian(x, alpha, sigma):
    return log_normal(x, alpha * MEAN, alpha**2 * COV + sigma**2 * jnp.eye(3))


def log_mixture(x, alpha, sigma, covs=STDS[:, None, None] ** 2 * np.eye(3)):
    each = [
        jnp.log(w) + log_normal(x, alpha * mode, alpha**2 * cov + sigma**2 * jnp.eye(3))
        for w, mode, cov in zip(WEIGHTS, MODES, covs, strict=True)
    ]
    return jax.scipy.special.logsumexp(jnp.stack(each))


LOG_DENSITIES = {
    "gaussian": log_gaussian,
    "mixture": log_mixture,
    "full": functools.partial(log_mixture, covs=COVS),
}
SCORES = {name: jax.jit(jax.vmap(jax.grad(log_p))) for name, log_p in LOG_DENSITIES.items()}


@every_process
@pytest.mark.parametrize("data", SCORES)
def test_both_views_match_the_score_and_tweedies_formula(data, name):
    t = np.array([1e-2, 0.1237, 0.6213, 0.8887, 1.0])
    alpha, sigma = (scale[:, None] for scale in exact_scales(name, t))
    noise = np.random.default_rng(0).standard_normal((5, 3))
    x_t = alpha * MODES[[0, 1, 0, 1, 0]] + np.hypot(alpha, sigma) * noise
    with float64():
        x0, eps = jax.device_get(views(data, one_of(name), x_t, t))
        score = np.asarray(SCORES[data](x_t, alpha[:, 0], sigma[:, 0]))
    np.testing.assert_allclose(eps, -sigma * score, rtol=2e-4, atol=2e-5)
    # Tweedie's formula divides by α, which the oracle does not.
    np.testing.assert_allclose(alpha * x0, np.asarray(x_t) + sigma**2 * score, rtol=2e-4, atol=2e-4)


@jax.jit
def scales(process, t):
    return process.alpha(t), process.sigma(t)


@every_process
def test_both_views_add_up_and_are_finite_at_both_ends(name):
    t = np.float32([0, 1e-4, 0.5, 0.9999, 1])
    alpha, sigma = (scale[:, None] for scale in scales(one_of(name), t))
    x0, noise = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    x_t = alpha * x0 + sigma * noise
    for data in ORACLES:
        estimate = views(data, one_of(name), x_t, t)
        chex.assert_tree_all_finite(estimate._asdict())
        total = alpha * estimate.x0 + sigma * estimate.eps
        np.testing.assert_allclose(total, x_t, rtol=2e-5, atol=2e-5)
        if exact_scales(name, 0.0)[1] == 0:
            np.testing.assert_allclose(estimate.x0[0], x0[0], rtol=1e-5, atol=1e-5)


def test_at_full_noise_the_estimate_is_the_mean():
    x_t = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    mean_of = {"gaussian": MEAN, "mixture": WEIGHTS @ MODES, "full": WEIGHTS @ MODES}
    for data, mean in mean_of.items():
        x0 = views(data, one_of("cosine_vp"), x_t, np.ones(5, np.float32)).x0  # α(1) is 5e-5
        np.testing.assert_allclose(x0, np.broadcast_to(mean, (5, 3)), atol=1e-3)


def same(event, std=0.6):
    """The same distribution three times: as a Gaussian, and as two kinds of a mixture of one."""
    mean = np.random.default_rng(1).standard_normal(event).astype(np.float32)
    process, dim = PROCESSES["vp"].process, mean.size
    return (
        jax.jit(oracles.gaussian(process, mean, std**2 * jnp.eye(dim))),
        jax.jit(oracles.mixture(process, jnp.array([3.0]), mean[None], jnp.array([std]))),
        jax.jit(oracles.mixture(process, jnp.ones(1), mean[None], std**2 * jnp.eye(dim)[None])),
    )


@pytest.mark.parametrize("event", [(), (3,), (2, 2, 1)], ids=str)
def test_mixture_of_one_is_a_gaussian_for_any_event_shape(event):
    x_t = np.random.default_rng(0).standard_normal((4, *event)).astype(np.float32)
    t = np.float32([0.0, 0.3, 0.7, 1.0])
    gaussian, *mixtures = (denoise_fn(x_t, t) for denoise_fn in same(event))
    for mixture in mixtures:
        np.testing.assert_allclose(gaussian.x0, mixture.x0, rtol=1e-4, atol=2e-6)
        np.testing.assert_allclose(gaussian.eps, mixture.eps, rtol=1e-4, atol=2e-6)
    assert gaussian.x0.shape == x_t.shape


def test_a_scalar_time_equals_the_same_time_for_each():
    x_t = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)
    for denoise_fn in same((3,)):
        one, each = denoise_fn(x_t, 0.3), denoise_fn(x_t, np.full(4, 0.3, np.float32))
        np.testing.assert_allclose(one.x0, each.x0, rtol=1e-6)
        np.testing.assert_allclose(one.eps, each.eps, rtol=1e-6)


def test_weights_are_normalised_and_a_singular_covariance_has_a_point_mass_in_its_null_space():
    process, x_t = PROCESSES["vp"].process, np.float32([[0.3, 0.4]])
    modes, stds = np.float32([[1.0, 0.0], [-1.0, 2.0]]), np.float32([0.2, 0.5])
    one, ten = (
        jax.jit(oracles.mixture(process, factor * np.float32([0.3, 0.7]), modes, stds))(x_t, 0.4)
        for factor in (1, 10)
    )
    np.testing.assert_allclose(one.x0, ten.x0, rtol=1e-5)
    flat = oracles.gaussian(process, np.float32([0.5, 7.0]), np.float32([[1.0, 0.0], [0.0, 0.0]]))
    np.testing.assert_allclose(jax.jit(flat)(x_t, 0.4).x0[:, 1], [7.0], rtol=1e-6)


def test_distributions_whose_parts_disagree_are_refused():
    process = PROCESSES["vp"].process
    with pytest.raises(InputError, match="cov"):
        oracles.gaussian(process, jnp.zeros(3), jnp.eye(2))
    with pytest.raises(InputError, match="components"):
        oracles.mixture(process, jnp.ones(2), jnp.zeros((3, 1)), jnp.ones(2))
    with pytest.raises(InputError, match="components"):
        oracles.mixture(process, jnp.ones(2), jnp.zeros((2, 1)), jnp.ones(3))
    with pytest.raises(InputError, match=r"stds must have shape \(2,\), or \(2, 3, 3\)"):
        oracles.mixture(process, jnp.ones(2), jnp.zeros((2, 3)), jnp.ones((2, 3)))
