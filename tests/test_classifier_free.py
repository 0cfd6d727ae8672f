"""Guidance by the difference of two models against its published formulas, in numpy."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from guidance_table import exact
from one_program import one_of
from process_table import PROCESSES, exact_scales

from jaxdiff import guidance, oracles
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP
from jaxdiff.typing import InputError

every_process = pytest.mark.parametrize("name", PROCESSES)
TIMES = np.float32([0.0, 0.02, 0.3, 0.7, 1.0])


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@jax.jit
def guided_and_parts(process, x, t, scale):
    """(classifier-free, autoguidance, batched), and the two models alone."""
    of_one, of_all = exact(process).conditioned(1), exact(process).denoise_fn
    wraps = (
        guidance.classifier_free(of_one, of_all, scale=scale),
        guidance.classifier_free(of_one, of_all, weight=scale - 1),
        guidance.autoguidance(of_one, of_all, scale=scale),
        guidance.classifier_free_batched(exact(process).conditioned, 1, 2, scale=scale),
    )
    return [wrap(x, t) for wrap in wraps], of_one(x, t), of_all(x, t)


@every_process
def test_scale_one_is_the_conditional_and_zero_the_unconditional_model_bit_for_bit(name):
    x = numbers(5, 3)
    for scale, place in ((1.0, 1), (0.0, 2)):
        found = guided_and_parts(one_of(name), x, TIMES, np.float32(scale))
        *separate, batched = found[0]
        for guided in separate:
            for view, expected in zip(guided, found[place], strict=True):
                np.testing.assert_array_equal(view, expected)
        for view, expected in zip(batched, found[place], strict=True):  # rounded on other batches
            np.testing.assert_allclose(view, expected, rtol=1e-5, atol=1e-6)
    assert np.max(np.abs(found[1].eps - found[2].eps)) > 0.1


@every_process
def test_the_two_published_formulas_are_one(name):
    """Ho & Salimans 2022, eq. 6: (1 + w) ε(c) − w ε; Saharia et al. 2022: ε + s (ε(c) − ε)."""
    scales = np.float32([-1.0, 0.5, 1.5, 3.0, 7.0])  # one per example
    found, of_one, of_all = guided_and_parts(one_of(name), numbers(5, 3), TIMES, scales)
    w, s = scales[:, None] - 1, scales[:, None]
    for view in ("x0", "eps"):
        better, worse = (np.asarray(getattr(one, view), np.float64) for one in (of_one, of_all))
        scale = np.max(np.abs([better, worse])) * 1e-5
        for guided in found:
            got = getattr(guided, view)
            np.testing.assert_allclose(got, (1 + w) * better - w * worse, rtol=1e-5, atol=scale)
            np.testing.assert_allclose(got, worse + s * (better - worse), rtol=1e-5, atol=scale)


def test_one_network_is_called_once_on_a_doubled_batch():
    calls, seen = Counter(), []

    def conditioned(label):
        def denoise_fn(x, t):
            calls[x.shape] += 1
            seen.append((label, t))
            return Denoised(label[:, None] * x, x)

        return denoise_fn

    guided = guidance.classifier_free_batched(
        conditioned, jnp.array([1.0, 2.0, 3.0]), null_label=9.0, scale=3.0
    )
    t, x = jnp.array([0.1, 0.2, 0.3]), jnp.ones((3, 2))
    np.testing.assert_allclose(guided(x, t).x0[:, 0], 9 + 3 * (np.array([1, 2, 3]) - 9))
    assert calls == {(6, 2): 1}
    np.testing.assert_array_equal(seen[0][0], [1, 2, 3, 9, 9, 9])
    np.testing.assert_array_equal(seen[0][1], np.tile(np.float32([0.1, 0.2, 0.3]), 2))


@functools.partial(jax.jit, static_argnums=0)
def in_interval(counted, process, x, t, interval):
    """With σ/α in an interval only; ``counted`` receives each evaluation of the worse model."""
    better, worse = exact(process).conditioned(1), exact(process).denoise_fn

    def counting(x, t):
        jax.debug.callback(lambda t: counted.append(float(t)), t)
        return worse(x, t)

    guided = guidance.classifier_free(
        better, counting if t.ndim == 0 else worse, scale=3.0, process=process, interval=interval
    )
    return guided(x, t), better(x, t), worse(x, t)


class Calls(list):
    __hash__ = object.__hash__


@pytest.mark.parametrize("name", ["vp", "ve"])
def test_guidance_acts_inside_the_interval_of_noise_levels_only(name):
    x, times = numbers(9, 3), np.linspace(0.1, 0.9, 9).astype(np.float32)
    alpha, sigma = exact_scales(name, times)
    low, high = np.sort(sigma / alpha)[[2, 6]] * np.float32([1.01, 1.01])
    inside = (sigma / alpha > low) & (sigma / alpha <= high)
    assert inside.sum() == 4
    found, better, worse = in_interval(Calls(), one_of(name), x, times, (low, high))
    for view, of_one, of_all in zip(found, better, worse, strict=True):
        np.testing.assert_array_equal(view[~inside], of_one[~inside])
        expected = of_all + 3 * (of_one - of_all)
        np.testing.assert_allclose(view[inside], expected[inside], rtol=1e-5, atol=1e-5)
        assert np.max(np.abs(view - of_one)[inside]) > 1e-2


def test_the_worse_model_is_not_evaluated_outside_of_the_interval():
    counted, x = Calls(), numbers(9, 3)
    for t in (0.1, 0.5, 0.9):  # σ/α of VP is about 0.3, 3.3 and 60
        in_interval(counted, one_of("vp"), x, np.float32(t), (np.float32(1), np.float32(10)))
    jax.effects_barrier()
    np.testing.assert_allclose(counted, [0.5])


@jax.jit
def rescaled(process, x, t, rescale):
    better, worse = exact(process).conditioned(1), exact(process).denoise_fn
    guided = guidance.classifier_free(better, worse, scale=4.0, process=process, rescale=rescale)
    return guided(x, t), better(x, t), worse(x, t)


@every_process
def test_rescaling_restores_the_spread_of_the_conditional_prediction_of_v(name):
    """Lin et al. 2024, section 3.4, whose networks predict v, one example at a time."""
    alpha, sigma = exact_scales(name, TIMES)
    found, *parts = rescaled(one_of(name), numbers(5, 3), TIMES, np.float32(0.7))
    for i, (a, s) in enumerate(zip(alpha, sigma, strict=True)):
        v_pos, v_neg = (a * np.float64(p.eps[i]) - s * np.float64(p.x0[i]) for p in parts)
        v_cfg = v_neg + 4 * (v_pos - v_neg)
        v_final = 0.7 * v_cfg * np.std(v_pos) / np.std(v_cfg) + 0.3 * v_cfg
        got = a * np.float64(found.eps[i]) - s * np.float64(found.x0[i])
        np.testing.assert_allclose(got, v_final, rtol=2e-3, atol=2e-3 * np.std(v_pos) + 1e-6)


def shaped(shape):
    return lambda x, t: Denoised(jnp.zeros(shape), jnp.zeros(shape))


MODEL = shaped((2, 3))
FREE = functools.partial(guidance.classifier_free, MODEL, MODEL)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FREE(), "exactly one of scale and weight must be given, got neither"),
        (lambda: FREE(scale=1.0, weight=0.0), "must be given, got both, 1.0 and 0.0"),
        (lambda: FREE(scale=np.nan), "scale must be finite, got nan"),
        (lambda: FREE(scale=jnp.array([1.0, jnp.inf])), "scale must be finite, got [ 1. inf]"),
        (lambda: FREE(weight=np.inf), "weight must be finite, got inf"),
        (lambda: FREE(scale=1.0, rescale=1.5, process=VP()), "rescale must be in [0, 1], got 1.5"),
        (
            lambda: FREE(scale=1.0, interval=(2.0, 1.0), process=VP()),
            "interval must be (low, high) of sigma/alpha with 0 <= low < high, got (2.0, 1.0)",
        ),
        (lambda: FREE(scale=1.0, interval=(1.0, 2.0)), "process must be given with interval, got"),
        (lambda: FREE(scale=1.0, rescale=0.5), "process must be given with rescale, got None"),
        (lambda: FREE(scale=1.0, guide_process=VP()), "process must be given with guide_process"),
        (
            lambda: FREE(scale=1.0, process=VP(), guide_process=VE()),
            "guide_process must have the alpha and sigma of the model's process, got VE beside VP",
        ),
        (
            lambda: guidance.autoguidance(
                MODEL, MODEL, scale=2.0, process=VP(), guide_process=VP(beta_max=10.0)
            ),
            "got VP beside VP, which differ at t = 0.1",
        ),
        (
            lambda: guidance.classifier_free(MODEL, shaped((2, 4)), scale=2.0)(jnp.ones((2, 3)), 1),
            "unconditional must return estimates of the shape of its input, (2, 3), got shape (2,",
        ),
        (
            lambda: guidance.autoguidance(MODEL, shaped((1, 3)), scale=2.0)(jnp.ones((2, 3)), 1),
            "weak must return estimates of the shape of its input, (2, 3), got shape (1, 3)",
        ),
    ],
)
def test_invalid_options_are_refused_in_one_line(make, message):
    with pytest.raises(InputError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_kinds_of_processes_are_compared_where_their_numbers_are_hidden():
    def run(process):
        FREE(scale=1.0, process=process, guide_process=VP())

    jax.eval_shape(run, VP(beta_max=5.0))
    with pytest.raises(InputError, match="got VP beside VE"):
        jax.eval_shape(run, VE())


def test_the_same_process_passes_inside_a_compiled_function():
    x = jnp.ones((2, 3))

    @jax.jit
    def run(x):
        process, weak = VP(), oracles.gaussian(VP(), jnp.zeros(3), jnp.eye(3))
        options = {"scale": 1.0, "process": process, "guide_process": VP()}
        return guidance.autoguidance(MODEL, weak, **options)(x, 0.5).x0

    np.testing.assert_array_equal(run(x), np.zeros((2, 3)))
