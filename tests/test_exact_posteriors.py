"""Posteriors, samples and classes of mixtures against the joint distribution in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close, float64
from exact_posteriors import given_both, posterior, problem
from process_table import PROCESSES, as_float64, exact_scales
from scipy import stats

from jaxdiff import oracles
from jaxdiff.typing import InputError

GIVEN = problem(components=3, dim=4, measured=2, noise_std=0.3)
LABELS = np.array([1, 0, 1])

condition = jax.jit(oracles.condition)


@pytest.mark.usefixtures("x64")
def test_posterior_equals_that_of_the_information_form():
    for got, expected in zip(condition(*GIVEN), posterior(GIVEN), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.usefixtures("x64")
def test_moments_of_a_posterior_equal_integrals_over_the_data():
    """In the plane: Bayes' rule on a grid, with isotropic components."""
    weights, means, stds = np.array([0.4, 0.6]), np.array([[1.0, 0], [-1, 0.5]]), np.array([0.5, 1])
    A, y = np.array([[1.0, -0.5]]), np.array([0.2])
    found = oracles.condition(weights, means, stds, A, y, 0.4)
    axis = np.linspace(-8, 8, 401)
    x0 = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    away = np.sum((x0[:, None] - means) ** 2, axis=2) / stds**2
    density = np.sum(weights / stds**2 * np.exp(-0.5 * away), axis=1)
    density *= np.exp(-0.5 * ((y - x0 @ A.T) / 0.4)[:, 0] ** 2)
    mean = np.average(x0, axis=0, weights=density)
    np.testing.assert_allclose(found.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(found.cov, np.cov(x0.T, aweights=density, ddof=0), rtol=1e-8)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["vp", "ve"])
def test_denoiser_of_the_posterior_is_the_mean_given_both(name):
    """E[x_0 | x_t, y], at every t, though y does not enter it except through the posterior."""
    process = as_float64(PROCESSES[name].process)
    denoise_fn = oracles.mixture(process, *condition(*GIVEN))
    t = np.array([0.05, 0.3, 0.6, 1.0])
    alpha, sigma = exact_scales(name, t)
    x_t = np.random.default_rng(1).normal(size=(4, 4)) * np.hypot(alpha, sigma)[:, None]
    expected = [given_both(GIVEN, *each) for each in zip(x_t, alpha, sigma, strict=True)]
    found = jnp.stack(jax.jit(denoise_fn)(x_t, t), axis=1)
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.usefixtures("x64")
def test_a_measurement_without_noise_holds_exactly():
    _, means, covs = condition(*GIVEN._replace(noise_std=0.0))
    np.testing.assert_allclose(means @ GIVEN.A.T, np.tile(GIVEN.y, (3, 1)), rtol=1e-10)
    np.testing.assert_allclose(covs @ GIVEN.A.T, np.zeros((3, 4, 2)), atol=1e-12)


def test_a_posterior_keeps_the_shape_of_an_example():
    image = GIVEN._replace(means=GIVEN.means.reshape(3, 2, 2, 1))
    flat, whole = condition(*GIVEN), condition(*image)
    np.testing.assert_array_equal(whole.means, flat.means.reshape(3, 2, 2, 1))
    np.testing.assert_array_equal(whole.stds, flat.stds)
    np.testing.assert_allclose(whole.mean.ravel(), flat.mean, rtol=1e-6)


def test_samples_have_the_moments_of_the_mixture():
    n = 20_000
    with float64():
        expected = oracles.Mixture(*map(jnp.asarray, GIVEN[:3]))
        mean, cov = map(np.asarray, (expected.mean, expected.cov))
    np.testing.assert_allclose(mean, GIVEN.weights @ GIVEN.means)
    x0 = oracles.sample_mixture(jax.random.key(0), *GIVEN[:3], num_samples=n)
    assert_mean_close(x0, mean)
    away = np.asarray(x0) - mean
    assert_mean_close((away[:, :, None] * away[:, None, :]).reshape(n, -1), cov.ravel())
    # the third moment of one coordinate distinguishes the mixture from a Gaussian
    centres, variances = GIVEN.means[:, 0] - mean[0], GIVEN.covs[:, 0, 0]
    skew = GIVEN.weights @ (centres**3 + 3 * centres * variances)
    assert abs(skew) > 0.1
    assert_mean_close(away[:, 0] ** 3, skew)


def test_samples_of_isotropic_components_have_their_standard_deviations():
    stds = np.array([0.1, 1.0], np.float32)
    modes = np.float32([[[-5.0], [-5.0]], [[5.0], [5.0]]])
    x0 = oracles.sample_mixture(
        jax.random.key(1), np.array([0.25, 0.75]), modes, stds, num_samples=8_000
    )
    assert x0.shape == (8_000, 2, 1)
    second = np.asarray(x0)[:, 0, 0] > 0
    assert_mean_close(second, 0.75)
    for std, mode, mine in zip(stds, (-5, 5), (~second, second), strict=True):
        assert_mean_close((np.asarray(x0[mine, :, 0]) - mode) ** 2, std**2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["vp", "subvp", "ve"])
def test_classifier_and_conditional_models_follow_bayes_rule(name):
    exact = oracles.labelled(as_float64(PROCESSES[name].process), *GIVEN[:3], LABELS)
    t = np.array([0.02, 0.3, 0.6, 1.0])
    alpha, sigma = exact_scales(name, t)
    x_t = np.random.default_rng(1).normal(size=(4, 4)) * np.hypot(alpha, sigma)[:, None]
    joint = np.array(
        [
            [
                w * stats.multivariate_normal.pdf(x, a * m, a**2 * c + s**2 * np.eye(4))
                for w, m, c in zip(*GIVEN[:3], strict=True)
            ]
            for x, a, s in zip(x_t, alpha, sigma, strict=True)
        ]
    )
    expected = np.log(joint[:, LABELS == 1].sum(1) / joint.sum(1))
    got = jax.jit(exact.log_prob_fn(1))(x_t, t)
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(
        jnp.exp(got) + jnp.exp(exact.log_prob_fn(0)(x_t, t)), np.ones(4), rtol=1e-12
    )

    mine = LABELS == 1
    alone = oracles.mixture(as_float64(PROCESSES[name].process), *(p[mine] for p in GIVEN[:3]))
    label = np.array([1, 0, 1, 2])  # 2 stands for no label
    found, of_one = jax.jit(exact.conditioned(label))(x_t, t), jax.jit(alone)(x_t, t)
    for view, expected in zip(found, of_one, strict=True):
        np.testing.assert_allclose(view[::2], expected[::2], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(found.x0[1], jax.jit(exact.conditioned(0))(x_t, t).x0[1])
    np.testing.assert_allclose(found.x0[3], jax.jit(exact.denoise_fn)(x_t, t).x0[3])


PROCESS = PROCESSES["vp"].process


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: oracles.condition(*GIVEN._replace(y=np.ones(3))), "A must have shape [M, 4]"),
        (lambda: oracles.condition(*GIVEN._replace(A=np.ones((2, 3)))), "A must have shape [M, 4]"),
        (lambda: oracles.condition(*GIVEN._replace(noise_std=-1.0)), "noise_std must be non-negat"),
        (lambda: oracles.condition(*GIVEN._replace(covs=np.ones((3, 4)))), "stds must have shape"),
        (
            lambda: oracles.condition(*GIVEN._replace(A=np.ones((2, 4)), noise_std=0.0)),
            "A C Aᵀ + noise_std² I must be positive definite",
        ),
        (
            lambda: oracles.sample_mixture(jax.random.key(0), *GIVEN[:3], num_samples=0),
            "num_samples must be a positive integer, got 0",
        ),
        (lambda: oracles.labelled(PROCESS, *GIVEN[:3], LABELS[:2]), "labels must be 3 integers"),
        (lambda: oracles.labelled(PROCESS, *GIVEN[:3], [0.0, 1, 1]), "labels must be 3 integers"),
        (lambda: oracles.labelled(PROCESS, *GIVEN[:3], [0, 2, 2]), "labels must be 0, 1, … withou"),
        (
            lambda: oracles.labelled(PROCESS, *GIVEN[:3], LABELS).conditioned(3),
            "label must be whole numbers from 0 to 1, or 2 for no label, got 3",
        ),
        (
            lambda: oracles.labelled(PROCESS, *GIVEN[:3], LABELS).log_prob_fn(-1),
            "label must be whole numbers from 0 to 1, or 2 for no label, got -1",
        ),
    ],
)
def test_parts_that_do_not_fit_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
