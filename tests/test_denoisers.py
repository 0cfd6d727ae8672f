"""From a network to a model: its input, its noise conditioning and its output."""

import functools
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_variance_close
from process_table import PROCESSES, exact_scales

from jaxdiff import denoisers, oracles
from jaxdiff.denoisers import denoiser
from jaxdiff.predictions import Kind, from_denoised
from jaxdiff.processes import VE
from jaxdiff.typing import InputError

every_process = pytest.mark.parametrize("name", PROCESSES)

DATA_STD = 0.5
T = np.float32([0.01, 0.1237, 0.3711, 0.6213, 0.8887])


def noisy(name, t=T, event=(3,), seed=0):
    x0, eps = np.random.default_rng(seed).standard_normal((2, len(t), *event))
    alpha, sigma = (np.reshape(s, (-1, *[1] * len(event))) for s in exact_scales(name, t))
    return np.float32(alpha * DATA_STD * x0 + sigma * eps)


@every_process
def test_a_perfect_network_of_any_kind_is_the_exact_model(name):
    x_t = noisy(name)
    expected, found = perfect_models(PROCESSES[name].process, x_t, T)
    # A view is as exact as x_t's rounding divided by its own scale.
    alpha, sigma = (scale[:, None] for scale in exact_scales(name, T))
    rounding = 1e-6 * np.abs(x_t) + 1e-7
    for kind in get_args(Kind):
        x0, eps = found[kind]
        assert np.all(np.abs(x0 - expected.x0) <= rounding / alpha + 1e-6), kind
        assert np.all(np.abs(eps - expected.eps) <= rounding / sigma + 1e-6), kind


@jax.jit
def perfect_models(process, x_t, t):
    """The exact model, and for each kind the model of a network with the exact output."""
    exact = oracles.gaussian(process, np.float32([0.1, 0.2, -0.3]), 0.25 * jnp.eye(3))

    def perfect(kind):
        def network(x, t):
            alpha, sigma = process.alpha(t), process.sigma(t)
            unscaled = x * jnp.sqrt((alpha * DATA_STD) ** 2 + sigma**2)[:, None]
            answer = exact(unscaled, t)
            return from_denoised(answer, unscaled, alpha, sigma, kind=kind, data_std=DATA_STD)

        return denoiser(network, process, kind=kind, data_std=DATA_STD)

    return exact(x_t, t), {kind: perfect(kind)(x_t, t) for kind in get_args(Kind)}


@jax.jit
def inputs_of(process, x_t, t):
    """The input of a network, which returns it as an estimate of x0."""
    return denoiser(lambda x, _: x, process, kind="x0", data_std=DATA_STD)(x_t, t).x0


@every_process
def test_the_network_sees_unit_variance_at_every_noise_level(name):
    t = np.float32([0.0, 0.01, 0.3711, 1.0]).repeat(2000)
    x = inputs_of(PROCESSES[name].process, noisy(name, t, event=()), t)
    assert_variance_close(np.reshape(x, (4, 2000)).T, np.ones(4), mean=0)


def test_the_network_sees_the_raw_input_on_request():
    inputs_of = denoiser(lambda x, _: x, PROCESSES["ve"].process, kind="x0", scale_input=False)
    x_t = noisy("ve", event=(2, 2, 1))
    np.testing.assert_array_equal(inputs_of(x_t, T).x0, x_t)


@jax.jit
def conds(process, x_t, t):
    """Time, log σ/α and log SNR as given to a network, which returns them as an estimate."""

    def network(x, level):
        return x * 0 + level[:, None]

    levels = (denoisers.time, denoisers.log_sigma, denoisers.log_snr)
    models = [denoiser(network, process, kind="x0", noise_cond_fn=level) for level in levels]
    return [model(x_t, t).x0[:, 0] for model in models]


@every_process
def test_the_network_gets_the_requested_noise_conditioning(name):
    alpha, sigma = exact_scales(name, T)
    expected = (T, np.log(sigma / alpha), 2 * np.log(alpha / sigma))
    for actual, number in zip(
        conds(PROCESSES[name].process, noisy(name), T), expected, strict=True
    ):
        np.testing.assert_allclose(actual, number, rtol=2e-5, atol=2e-5)


def test_edm_kind_is_the_preconditioning_of_karras_et_al_2022_equation_7():
    sigma, d = np.array([0.02, 0.5, 2.0, 30.0]), DATA_STD
    t = np.float32(np.log(sigma / 0.01) / np.log(5000))
    x = np.float32(np.random.default_rng(0).standard_normal((4, 2)) * np.hypot(sigma, d)[:, None])

    def network(x, c_noise):
        return jnp.tanh(x) + 0.1 * c_noise[:, None]

    model = denoiser(network, VE(), kind="edm", data_std=d, noise_cond_fn=denoisers.log_sigma)
    c_skip = (d**2 / (sigma**2 + d**2))[:, None]
    c_out = (sigma * d / np.hypot(sigma, d))[:, None]
    c_in = (1 / np.hypot(sigma, d))[:, None]
    expected = c_skip * x + c_out * (np.tanh(c_in * x) + 0.1 * np.log(sigma)[:, None])
    np.testing.assert_allclose(jax.jit(model)(x, t).x0, expected, rtol=1e-4, atol=1e-5)


def test_a_scalar_time_equals_the_same_time_for_each():
    model = denoiser(lambda x, level: x * level[:, None], PROCESSES["vp"].process, kind="v")
    x_t = noisy("vp")
    times = 0.3, np.full(len(T), 0.3, np.float32)
    one, each = jax.jit(lambda x_t, times: [model(x_t, t) for t in times])(x_t, times)
    np.testing.assert_allclose(one.x0, each.x0, rtol=1e-6)
    np.testing.assert_allclose(one.eps, each.eps, rtol=1e-6)


@every_process
@pytest.mark.parametrize("kind", ["v", "edm"])
def test_values_and_gradients_of_parameters_are_finite_at_both_ends(kind, name):
    t = np.float32([0.0, 1.0])
    chex.assert_tree_all_finite(
        value_and_gradient(kind)(0.7, PROCESSES[name].process, noisy(name, t), t)
    )


@functools.cache
def value_and_gradient(kind):
    def total(w, process, x_t, t):
        x0, eps = denoiser(lambda x, _: w * x, process, kind=kind, noise_cond_fn=denoisers.log_snr)(
            x_t, t
        )
        return jnp.sum(x0**2) + jnp.sum(eps**2)

    return jax.jit(jax.value_and_grad(total))


def test_unknown_kinds_are_refused():
    with pytest.raises(InputError, match="eps, x0, v, score, sigma_score, edm"):
        denoiser(lambda x, _: x, PROCESSES["vp"].process, kind="noise")
