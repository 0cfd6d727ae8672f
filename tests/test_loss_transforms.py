"""Every loss under jit, vmap, grad and grad of grad, in any rank, at both ends of time."""

import functools
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import float64
from known_times import at_times
from one_program import one_of
from process_table import PROCESSES, as_float64
from quickly import first_is_quick

from jaxdiff import divergence, losses, oracles
from jaxdiff.losses import times, weights
from jaxdiff.predictions import Denoised, DenoisedWithVariance
from jaxdiff.processes import DiscreteVP

TIMES = [0.9, 0.5, 0.2]


def model_of(theta, process, *, learned=False):
    """A smooth model with one parameter: ε̂ = tanh(θx + t)."""

    def denoise_fn(x, t):
        t = jnp.broadcast_to(t, x.shape[:1]).reshape(-1, *[1] * (x.ndim - 1))
        eps = jnp.tanh(theta * x + t)
        x0 = (x - process.sigma(t) * eps) / process.alpha(t)
        if learned:
            return DenoisedWithVariance(x0, eps, 0.5 + 0.3 * jnp.sin(theta * x))
        return Denoised(x0, eps)

    return denoise_fn


def score_of(theta):
    return lambda x: jnp.tanh(theta * x) - x


def on_data(loss):
    return lambda theta, key, process, x: loss(key, score_of(theta), x)


def on_noise(loss, *, learned=False):
    return lambda theta, key, process, x: loss(
        key, model_of(theta, process, learned=learned), process, x
    )


def ts(x):
    return jnp.asarray(np.linspace(0.2, 0.9, len(x)), x.dtype)


def nodes(x):
    """Nodes of a chain of five steps, rounded before the precision of x matters."""
    return jnp.asarray(np.ceil(5 * np.linspace(0.2, 0.9, len(x))) / 5, x.dtype)


def time_sample(x):
    return times.TimeSample(ts(x), jnp.ones(len(x)))


def probes(key):
    return functools.partial(divergence.hutchinson, key)


def _dsm(theta, key, process, x):
    return losses.dsm(key, lambda x, t: score_of(theta)(x), process, x, ts(x))


LOSSES = {
    **{
        f"denoising_{target}": on_noise(
            lambda k, m, p, x, target=target: losses.denoising(k, m, p, x, ts(x), target=target)
        )
        for target in get_args(weights.Target)
    },
    "dsm": _dsm,
    "esm": on_data(lambda k, s, x: losses.esm(s, lambda y: -y, x)),
    "ism": on_data(lambda k, s, x: losses.ism(s, x)),
    "ism_hutchinson": on_data(lambda k, s, x: losses.ism(s, x, divergence_fn=probes(k))),
    "ssm": on_data(losses.ssm),
    "fd_ssm": on_data(functools.partial(losses.fd_ssm, step=0.1)),
    "elbo": on_noise(lambda k, m, p, x: sum(losses.elbo_terms(k, m, p, x, times=jnp.array(TIMES)))),
    "elbo_draws": on_noise(
        lambda k, m, p, x: jnp.mean(
            losses.denoising_draws(k, m, p, x, times=jnp.array(TIMES), num_terms=2), axis=0
        )
    ),
    "consistency": on_noise(
        lambda k, m, p, x: sum(losses.consistency_terms(k, m, p, x, times=jnp.array(TIMES)))
    ),
    "vlb": on_noise(
        lambda k, m, p, x: losses.vlb(k, m, p, x, nodes(x), num_steps=5),
        learned=True,
    ),
    "hybrid": on_noise(
        lambda k, m, p, x: losses.hybrid(k, m, p, x, nodes(x), num_steps=5),
        learned=True,
    ),
    "continuous_elbo": on_noise(
        lambda k, m, p, x: sum(losses.continuous_elbo(k, m, p, x, time_sample(x), t_min=0.1))
    ),
    "girsanov": on_noise(
        lambda k, m, p, x: losses.girsanov_bound(k, m, p, x, time_sample(x), t_min=0.1)
    ),
    "girsanov_hutchinson": on_noise(
        lambda k, m, p, x: losses.girsanov_bound(
            k, m, p, x, time_sample(x), t_min=0.1, divergence_fn=probes(k)
        )
    ),
}


def data(event, n=4):
    return np.random.default_rng(0).normal(size=(n, *event)).astype(np.float32)


def without_stop(theta, key, process, x):
    """The part of ``hybrid`` that has no stopped gradient, so that slopes match values."""
    return losses.denoising(key, model_of(theta, process, learned=True), process, x, nodes(x))


def with_slopes(loss, thetas, keys, process, x):
    """Values ``[n, batch]``, and first and second derivatives of their sum in θ."""

    def total(theta, key, process, x):
        values = loss(theta, key, process, x)
        return jnp.sum(values), values

    def first(*args):
        (_, values), slope = jax.value_and_grad(total, has_aux=True)(*args)
        return slope, (values, slope)

    def both(*args):
        bend, found = jax.grad(first, has_aux=True)(*args)
        return *found, bend

    mapped = jax.jit(jax.vmap(both, in_axes=(0, 0, None, None)))
    return jax.device_get(mapped(thetas, keys, process, x))


@pytest.mark.parametrize("name", first_is_quick(LOSSES))
def test_jit_vmap_and_rank_change_nothing_and_derivatives_match_differences(name):
    """In float64, where central differences give the first two derivatives to 1e-6.

    The same numbers are vectors when each loss is called directly, and images of two channels under
    jit and vmap.
    """
    loss, h = LOSSES[name], 1e-4
    with float64():
        process, x = as_float64(PROCESSES["vp"].process), jnp.asarray(np.float64(data((8,))))
        key, other = jax.random.split(jax.random.key(0))
        plain = loss(0.3, key, process, x)
        assert plain.shape == (4,)

        keys = jnp.stack([other, key, key, key])
        at = 0.3 + h * np.array([0, 0, -1, 1]), keys, process, x.reshape(4, 2, 2, 2)
        values, slope, bend = with_slopes(loss, *at)
        np.testing.assert_allclose(values[1], plain, rtol=1e-9)
        chex.assert_tree_all_finite((slope, bend))
        if name == "hybrid":
            values, slope, bend = with_slopes(without_stop, *at)

    _, here, below, above = np.sum(values, axis=1)
    scale = 1 + abs(here)
    assert abs(slope[1] - (above - below) / (2 * h)) < 1e-6 * scale
    assert abs(bend[1] - (above - 2 * here + below) / h**2) < 1e-4 * scale


WEIGHTS = ("eps", "x0", "likelihood", "min_snr", "p2", "edm")


@jax.jit
def every_weight(theta, key, process, x0, t):
    """Losses of the exact model times θ and their slopes; of a target ``[weights, batch]``."""
    later = t + 0.01 * (1 - t)
    process = at_times(process, t, later, 0.5 * later, later - 0.01)
    exact = oracles.gaussian(process, jnp.zeros(3), jnp.eye(3))

    def every(theta):
        def model(x, t):
            return jax.tree.map(lambda view: theta * view, exact(x, t))

        def score(x, t):
            return -model(x, t).eps / process.sigma(t)[:, None]

        def weighted(target, index):
            def weight_fn(process, t):
                by = [getattr(weights, name)(process, t, target=target) for name in WEIGHTS]
                return jnp.stack([jnp.ones_like(t), *by])[index]

            return losses.denoising(key, model, process, x0, t, target=target, weight_fn=weight_fn)

        each = jnp.arange(1 + len(WEIGHTS))
        return {
            "dsm": losses.dsm(key, score, process, x0, t),
            "vlb": losses.vlb(key, model, process, x0, later, num_steps=100),
            "denoising_rate": losses.denoising_rate(key, model, process, x0, t),
            **{
                target: jax.vmap(functools.partial(weighted, target))(each)
                for target in get_args(weights.Target)
            },
        }

    return jax.jvp(every, (theta,), (jnp.ones_like(theta),))


@pytest.mark.parametrize("name", PROCESSES)
def test_value_and_slope_are_finite_at_both_ends_of_time(name):
    """With the exact model times θ, whose error at the data is only rounding."""
    ends = np.float32([0.0, 1.0])
    found = every_weight(1.0, jax.random.key(0), one_of(name), data((3,), n=2), ends)
    chex.assert_tree_all_finite(found)


@jax.jit
def exact_forms(x, theta=0.7):
    score = score_of(theta)
    return {"esm": losses.esm(score, lambda y: -y, x), "ism": losses.ism(score, x)}


def test_exact_forms_agree_with_numpy_in_both_precisions():
    """S(x) = tanh(θx) − x: ½‖s + x‖² = ½ Σ tanh², and tr ∇s = Σ θ sech² − D."""
    x, theta = data((3, 2), n=6), 0.7
    z = np.float64(x)
    trace = np.sum(theta / np.cosh(theta * z) ** 2 - 1, axis=(1, 2))
    square = np.sum((np.tanh(theta * z) - z) ** 2, axis=(1, 2))
    single = exact_forms(x)
    with float64():
        double = exact_forms(z)
    for name, expected in {
        "esm": 0.5 * np.sum(np.tanh(theta * z) ** 2, axis=(1, 2)),
        "ism": 0.5 * square + trace,
    }.items():
        np.testing.assert_allclose(single[name], expected, rtol=1e-4)
        np.testing.assert_allclose(double[name], expected, rtol=1e-10)


@pytest.mark.slow
def test_float32_agrees_with_float64_given_the_same_noise(monkeypatch):
    """The noise is drawn once, so that both precisions see the same numbers."""
    x, key = data((5,), n=64), jax.random.key(2)
    noise = np.asarray(jax.random.normal(key, x.shape))
    monkeypatch.setattr(
        jax.random, "normal", lambda key, shape, dtype=None: jnp.asarray(noise, dtype)
    )
    chain = DiscreteVP.from_betas(jnp.linspace(0.02, 0.3, 10))
    names = ["elbo", "vlb", "continuous_elbo", "girsanov"]
    names += [f"denoising_{target}" for target in ("eps", "x0", "v")]

    @jax.jit
    def every(process, x):
        return {name: LOSSES[name](0.3, key, process, x) for name in names}

    single = every(chain, x)
    with float64():
        double = every(as_float64(chain), np.float64(x))
    for name, expected in double.items():
        assert expected.dtype == np.float64
        atol = 1e-4 * np.abs(expected).mean()
        np.testing.assert_allclose(single[name], expected, rtol=1e-4, atol=atol)
