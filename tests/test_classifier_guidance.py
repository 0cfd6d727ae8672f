"""Classifier guidance against the exact conditional models of a mixture."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import float64
from guidance_table import GIVEN, exact
from one_program import one_of
from process_table import PROCESSES, exact_scales

from jaxdiff import guidance
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP
from jaxdiff.typing import InputError

every_process = pytest.mark.parametrize("name", PROCESSES)
TIMES = np.array([0.0, 1e-3, 0.1, 0.3, 0.6, 0.9, 1.0])
CLASSES = np.array([0, 1, 1, 0, 1, 0, 1])


@jax.jit
def guided_and_exact(process, x, t, scale):
    """With one class per example: guided, conditional and plain estimates."""
    models = exact(process)
    log_prob_fn = models.log_prob_fn(CLASSES)
    guided = guidance.classifier(models.denoise_fn, process, log_prob_fn, scale=scale)
    return guided(x, t), models.conditioned(CLASSES)(x, t), models.denoise_fn(x, t)


def noised(name):
    alpha, sigma = (scale[:, None] for scale in exact_scales(name, TIMES))
    noise = np.random.default_rng(0).normal(size=(len(TIMES), 3))
    return alpha * GIVEN.means[[0, 1, 2, 0, 1, 2, 0]] + np.hypot(0.5 * alpha, sigma) * noise


@every_process
def test_exact_classifier_at_scale_one_gives_the_exact_conditional_model(name):
    """In float64 to 1e-10; in float32 ε̂, and α x̂_0 in units of x_t, to 1e-6."""
    with float64():
        found, expected, _ = guided_and_exact(one_of(name), noised(name), TIMES, 1.0)
        for view, of_one in zip(found, expected, strict=True):
            np.testing.assert_allclose(view, of_one, rtol=1e-10, atol=1e-10)
    arguments = map(np.float32, (noised(name), TIMES, 1.0))
    found, expected, plain = guided_and_exact(one_of(name), *arguments)
    assert np.max(np.abs(plain.eps - expected.eps)) > 0.1
    alpha, sigma = (scale[:, None] for scale in exact_scales(name, TIMES))
    np.testing.assert_allclose(found.eps, expected.eps, atol=1e-6)
    unit = alpha / np.hypot(alpha, sigma)
    np.testing.assert_allclose(unit * found.x0, unit * expected.x0, atol=1e-6)


@pytest.mark.usefixtures("x64")
@every_process
def test_the_change_is_proportional_to_the_scale_of_each_example(name):
    """ε̂ + s (ε̂(c) − ε̂): the exact classifier's score is the difference of the exact models'."""
    scales = np.array([0.0, 1.0, 3.0, -2.0, 0.5, 10.0, 2.0])
    found, of_one, plain = guided_and_exact(one_of(name), noised(name), TIMES, scales)
    for guided, conditional, view in zip(found, of_one, plain, strict=True):
        expected = view + scales[:, None] * np.asarray(conditional - view)
        np.testing.assert_allclose(guided, expected, rtol=1e-9, atol=1e-9)


def test_a_process_without_signal_keeps_its_estimate_of_the_data():
    """At α = 0 the class tells nothing about x_t, and Tweedie's formula would divide by zero."""

    class NoSignal(VP):
        def log_alpha(self, t):
            return jnp.full_like(jnp.asarray(t), -100.0)

    def log_prob_fn(x, t):
        return jnp.sum(x, axis=1)

    guided = guidance.classifier(lambda x, t: Denoised(x, x), NoSignal(), log_prob_fn, scale=1.0)
    estimate = guided(jnp.ones((2, 3)), 1.0)
    np.testing.assert_array_equal(estimate.x0, np.ones((2, 3)))
    np.testing.assert_allclose(estimate.eps, np.zeros((2, 3)), atol=1e-3)


def model(x, t):
    return Denoised(x, x)


def log_prob_of(shape):
    return lambda x, t: jnp.zeros(shape)


GUIDE = functools.partial(guidance.classifier, model, VP())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GUIDE(log_prob_of(2), scale=np.nan), "scale must be finite, got nan"),
        (
            lambda: GUIDE(log_prob_of(2), scale=1.0, guide_process=VE()),
            "guide_process must have the alpha and sigma of the model's process, got VE beside VP",
        ),
        (
            lambda: GUIDE(log_prob_of((2, 10)), scale=1.0)(jnp.ones((2, 3)), 0.5),
            "log_prob_fn must return one number per example, (2,), got shape (2, 10)",
        ),
        (
            lambda: guidance.classifier(
                lambda x, t: Denoised(x[:, :1], x[:, :1]), VP(), log_prob_of(2), scale=1.0
            )(jnp.ones((2, 3)), 0.5),
            "denoise_fn must return estimates of the shape of its input, (2, 3), got shape (2, 1)",
        ),
    ],
)
def test_invalid_guides_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
