"""Thresholding: x̂_0 against numpy, ε̂ against its relation to x_t, both ends of time."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import one_of
from process_table import PROCESSES, exact_scales

import jaxdiff
from jaxdiff import oracles, processes, schedules, solvers
from jaxdiff.guidance import thresholding
from jaxdiff.predictions import Denoised, DenoisedWithVariance
from jaxdiff.processes import VE, VP
from jaxdiff.typing import InputError

WRAPPERS = {
    "static": functools.partial(thresholding.clip_denoised, low=-0.8, high=0.5),
    "dynamic": functools.partial(thresholding.dynamic_threshold, quantile=0.9, bound=0.8),
}
every_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS)


def model_of(process, x0):
    """A model that predicts ``x0`` for any input."""

    def denoise_fn(x, t):
        alpha, sigma = (
            scale(t) * jnp.ones(x.shape[:1]) for scale in (process.alpha, process.sigma)
        )
        alpha, sigma = (jnp.reshape(a, (-1,) + (1,) * (x.ndim - 1)) for a in (alpha, sigma))
        return Denoised(jnp.asarray(x0), (x - alpha * x0) / sigma)

    return denoise_fn


@functools.partial(jax.jit, static_argnums=0)
def thresholded(wrapper, process, x0, x, t):
    """The estimate of the wrapped model."""
    return WRAPPERS[wrapper](model_of(process, x0), process)(x, t)


def numbers(shape, scale=1.5, seed=0):
    return (scale * np.random.default_rng(seed).normal(size=shape)).astype(np.float32)


def published(wrapper, x0):
    """Saharia et al. 2022, section 2.3, in numpy, one example at a time."""
    if wrapper == "static":
        return np.minimum(np.maximum(x0, -0.8), 0.5)
    thresholded = []
    for one in x0.astype(np.float64):
        s = max(np.quantile(np.abs(one), 0.9), 0.8)
        thresholded.append(np.clip(one, -s, s) / s * 0.8)
    return np.array(thresholded)


@pytest.mark.parametrize("shape", [(5, 1), (5, 7), (3, 4, 4, 3)], ids=str)
@every_wrapper
def test_estimate_of_the_data_matches_the_published_one(wrapper, shape):
    """Some examples within the range, some beyond it."""
    x, x0 = numbers(shape), numbers(shape, seed=1)
    x0[0] *= 0.1
    got = thresholded(wrapper, VP(), x0, x, 0.5).x0
    np.testing.assert_allclose(got, published(wrapper, x0), rtol=1e-5, atol=1e-6)
    assert np.max(np.abs(got - x0)) > 0.1
    assert np.max(np.abs(got[1:])) <= np.float32(0.8)


def test_an_example_within_the_range_is_unchanged():
    process, x, x0 = (
        VP(),
        numbers((2, 50)),
        np.linspace(-1, 1, 100, dtype=np.float32).reshape(2, 50),
    )
    wraps = (thresholding.clip_denoised, thresholding.dynamic_threshold)

    @jax.jit
    def every(x0, x, t):
        model = model_of(process, x0)
        return model(x, t), [wrap(model, process)(x, t) for wrap in wraps]

    before, found = every(x0, x, 0.3)
    for after in found:
        np.testing.assert_array_equal(after.x0, before.x0)
        np.testing.assert_array_equal(after.eps, before.eps)


@pytest.mark.parametrize("batched", [False, True], ids=["one time", "a time each"])
@pytest.mark.parametrize("name", PROCESSES)
@every_wrapper
def test_both_views_still_add_up_to_the_noisy_data(wrapper, name, batched):
    """α x̂_0 + σ ε̂ = x_t, with the papers' α and σ, where there is any noise."""
    x, x0 = numbers((4, 2, 3)), numbers((4, 2, 3), seed=1)
    times = [0.3, 1.0, 0.02, 0.7]
    for t in [np.array(times, np.float32)] if batched else np.float32(times):
        estimate = thresholded(wrapper, one_of(name), x0, x, t)
        alpha, sigma = (np.reshape(a, (-1, 1, 1)) for a in exact_scales(name, t))
        total = alpha * np.asarray(estimate.x0, np.float64) + sigma * np.asarray(estimate.eps)
        np.testing.assert_allclose(total, x, rtol=1e-3, atol=1e-3)
        assert np.max(np.abs(estimate.x0 - x0)) > 0.1


@functools.partial(jax.jit, static_argnums=0)
def of_far_estimates(wrapper, process, x, t):
    """The estimate, and the gradient of its sum in x and t."""

    def total(x, t):
        model = WRAPPERS[wrapper](lambda x, t: Denoised(3 * x, 0.1 * x), process)
        estimate = model(x, t)
        return jnp.sum(estimate.x0**2) + jnp.sum(estimate.eps * 1e-6), estimate

    slope, estimate = jax.grad(total, has_aux=True)(x, t)
    return estimate, slope


@pytest.mark.parametrize("name", PROCESSES)
@every_wrapper
def test_value_and_slope_are_finite_at_both_ends_of_time(wrapper, name):
    """Also for estimates far beyond the range; at σ = 0 the noise is left unchanged."""
    x = np.float32([[1e6, -1e6, 0.1], [0.0, 0.0, 0.0]])
    for t in (0.0, 1e-5, 1.0):
        estimate, slope = of_far_estimates(wrapper, one_of(name), x, t)
        chex.assert_tree_all_finite((estimate, slope))
        assert np.max(np.abs(estimate.x0)) <= np.float32(0.8)
        if t == 0 and exact_scales(name, 0.0)[1] == 0:
            np.testing.assert_array_equal(estimate.eps, np.float32(0.1) * x)
        else:
            assert np.max(np.abs(estimate.eps - np.float32(0.1) * x)) > 1


@every_wrapper
def test_a_third_field_of_the_estimate_is_kept(wrapper):
    x = numbers((2, 3))

    def model(x, t):
        return DenoisedWithVariance(2 * x, x, variance_fraction=7 * x)

    estimate = jax.jit(WRAPPERS[wrapper](model, VP()))(x, 0.5)
    assert isinstance(estimate, DenoisedWithVariance)
    np.testing.assert_array_equal(estimate.variance_fraction, np.float32(7) * x)


@every_wrapper
def test_an_example_does_not_depend_on_its_batch_mates(wrapper):
    x, x0 = numbers((6, 9)), numbers((6, 9), scale=3.0, seed=1)
    together = thresholded(wrapper, VP(), x0, x, 0.4)
    alone = thresholded(wrapper, VP(), x0[2:3], x[2:3], 0.4)
    np.testing.assert_allclose(together.x0[2:3], alone.x0, rtol=1e-6)
    np.testing.assert_allclose(together.eps[2:3], alone.eps, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "process", [VP(), VE(0.01, 50.0), PROCESSES["ddpm_linear_1000"].process], ids=type
)
@every_wrapper
def test_ddim_of_a_thresholded_model_ends_within_the_range(wrapper, process):
    """The data are three times as wide as the range; without the wrapper so are the samples."""

    @jax.jit
    def samples(process):
        exact = oracles.gaussian(process, jnp.zeros(8), 9 * jnp.eye(8))
        x = processes.sample_prior(jax.random.key(0), process, (32, 8))
        times = schedules.uniform_times(6)
        return [
            jaxdiff.sample(jax.random.key(1), solvers.ddim(model, process), x, times)
            for model in (exact, WRAPPERS[wrapper](exact, process))
        ]

    ends = jax.device_get(samples(process))
    left = 5 * float(process.sigma(0.0))  # the noise that VE still has at t = 0
    assert np.max(np.abs(ends[0])) > 2
    assert np.max(ends[1]) <= np.float32({"static": 0.5, "dynamic": 0.8}[wrapper]) + left
    assert np.min(ends[1]) >= np.float32(-0.8) - left


@pytest.mark.parametrize(
    ("wrap", "options", "others"),
    [
        (thresholding.clip_denoised, {"low": -1.0, "high": 1.0}, {"low": -0.5, "high": 0.7}),
        (
            thresholding.dynamic_threshold,
            {"quantile": 0.9, "bound": 1.0},
            {"quantile": 0.5, "bound": 0.3},
        ),
    ],
    ids=["static", "dynamic"],
)
def test_changing_numbers_does_not_retrace(wrap, options, others):
    traces, x0 = [], numbers((4, 5))

    @jax.jit
    def run(process, x, t, options):
        traces.append(1)
        return wrap(model_of(process, x0), process, **options)(x, t)

    one = run(VP(), x0, 0.3, options)
    run(VP(0.2, 10.0), 2 * x0, 0.6, others)
    assert len(traces) == 1
    plain = wrap(model_of(VP(), x0), VP(), **options)(x0, 0.3)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, plain)


@pytest.mark.parametrize(
    ("wrap", "options", "named"),
    [
        (thresholding.clip_denoised, {"low": 1.0, "high": -1.0}, "low must be less than high"),
        (thresholding.clip_denoised, {"low": 1.0}, "low must be less than high"),
        (thresholding.dynamic_threshold, {"quantile": 1.1}, "quantile"),
        (thresholding.dynamic_threshold, {"quantile": -0.1}, "quantile"),
        (thresholding.dynamic_threshold, {"bound": 0.0}, "bound"),
    ],
)
def test_invalid_ranges_are_refused(wrap, options, named):
    with pytest.raises(InputError, match=named):
        wrap(model_of(VP(), 0.0), VP(), **options)
