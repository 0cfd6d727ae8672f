"""Every loss under jit, vmap, grad and grad of grad, in any rank, at both ends of time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import PROCESSES, as_float64, assert_finite, float64

from jaxdiff import divergence, losses, oracles
from jaxdiff.losses import times, weights
from jaxdiff.predictions import Denoised, DenoisedWithVariance
from jaxdiff.processes import DiscreteVP

EVENTS = [(2,), (3, 2, 5), (4, 4, 1), (4, 4, 7)]
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
    return jnp.linspace(0.2, 0.9, len(x))


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
        for target in weights.TARGETS
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
        lambda k, m, p, x: losses.vlb(k, m, p, x, jnp.ceil(5 * ts(x)) / 5, num_steps=5),
        learned=True,
    ),
    "hybrid": on_noise(
        lambda k, m, p, x: losses.hybrid(k, m, p, x, jnp.ceil(5 * ts(x)) / 5, num_steps=5),
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


@pytest.mark.parametrize("name", LOSSES)
def test_jit_and_vmap_change_nothing_and_slopes_are_those_of_differences(name):
    """In float64, where central differences of the loss tell its first two slopes to 1e-6."""
    with float64():
        process, x = as_float64(PROCESSES["vp"]), jnp.asarray(np.float64(data((3,))))
        keys = jax.random.split(jax.random.key(0), 2)
        fixed = functools.partial(LOSSES[name], process=process, x=x)

        def total(theta, key):
            return jnp.sum(fixed(theta, key))

        plain = jnp.stack([fixed(0.3, key) for key in keys])
        assert plain.shape == (2, 4)
        mapped = jax.jit(jax.vmap(fixed, in_axes=(None, 0)))(0.3, keys)
        np.testing.assert_allclose(mapped, plain, rtol=1e-9)

        if name == "hybrid":  # a stopped gradient is not that of the value
            total = functools.partial(_hybrid_without_stop, process, x)
            assert np.isfinite(jax.grad(lambda th: jnp.sum(fixed(th, keys[0])))(0.3))
        h, value = 1e-4, jax.jit(total)
        below, here, above = (float(value(0.3 + k * h, keys[0])) for k in (-1, 0, 1))
        slope, bend = (
            jax.jit(f)(0.3, keys[0]) for f in (jax.grad(total), jax.grad(jax.grad(total)))
        )
        scale = 1 + abs(here)
        assert abs(float(slope) - (above - below) / (2 * h)) < 1e-6 * scale
        assert abs(float(bend) - (above - 2 * here + below) / h**2) < 1e-4 * scale


def _hybrid_without_stop(process, x, theta, key):
    model = model_of(theta, process, learned=True)
    t = jnp.ceil(5 * ts(x)) / 5
    return jnp.sum(losses.denoising(key, model, process, x, t))


@pytest.mark.parametrize("event", EVENTS, ids=str)
def test_losses_take_events_of_any_rank_and_any_number_of_channels(event):
    """On a flat event of the same numbers, with no randomness that its shape could enter."""
    process, x = PROCESSES["vp"], jnp.asarray(data(event))

    @jax.jit
    def every(x):
        return [loss(0.3, jax.random.key(1), process, x) for loss in LOSSES.values()]

    for shaped, flat in zip(every(x), every(x.reshape(4, -1)), strict=True):
        assert shaped.shape == (4,)
        np.testing.assert_allclose(shaped, flat, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", PROCESSES)
def test_both_ends_of_time_are_finite_in_value_and_slope(name):
    """With the exact model times θ, whose error at the data is nothing but rounding."""
    process, t = PROCESSES[name], jnp.array([0.0, 1.0])
    x0, key = jnp.asarray(data((3,), n=2)), jax.random.key(0)
    exact = oracles.gaussian(process, jnp.zeros(3), jnp.eye(3))

    def every(theta):
        def model(x, t):
            return jax.tree.map(lambda view: theta * view, exact(x, t))

        def score(x, t):
            return -model(x, t).eps / process.sigma(t)[:, None]

        found = {"dsm": losses.dsm(key, score, process, x0, t)}
        for target in weights.TARGETS:
            plain = functools.partial(losses.denoising, key, model, process, x0, t, target=target)
            found[target] = plain()
            for weight in ("eps", "x0", "likelihood", "min_snr", "p2", "edm"):
                weight_fn = functools.partial(getattr(weights, weight), target=target)
                found[f"{target} by {weight}"] = plain(weight_fn=weight_fn)
        found["vlb"] = losses.vlb(key, model, process, x0, t + 0.01 * (1 - t), num_steps=100)
        found["denoising_rate"] = losses.denoising_rate(key, model, process, x0, t)
        return found

    assert_finite(jax.jit(every)(1.0))
    assert_finite(jax.jit(jax.jacfwd(every))(1.0))


EXACT = {
    "esm": lambda s, x: losses.esm(s, lambda y: -y, x),
    "ism": losses.ism,
    "fd_ssm": lambda s, x: losses.fd_ssm(jax.random.key(0), s, x, variance_reduction=True),
}


@pytest.mark.parametrize("name", ["esm", "ism"])
def test_exact_forms_agree_with_numpy_in_both_precisions(name):
    """S(x) = tanh(θx) − x: ½‖s + x‖² = ½ Σ tanh², and tr ∇s = Σ θ sech² − D."""
    x = data((3, 2), n=6)
    z, theta = np.float64(x), 0.7
    trace = np.sum(theta / np.cosh(theta * z) ** 2 - 1, axis=(1, 2))
    square = np.sum((np.tanh(theta * z) - z) ** 2, axis=(1, 2))
    expected = {
        "esm": 0.5 * np.sum(np.tanh(theta * z) ** 2, axis=(1, 2)),
        "ism": 0.5 * square + trace,
    }[name]
    np.testing.assert_allclose(EXACT[name](score_of(theta), jnp.asarray(x)), expected, rtol=1e-4)
    with float64():
        found = EXACT[name](score_of(theta), jnp.asarray(z))
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_float32_agrees_with_float64_given_the_same_noise(monkeypatch):
    """The noise is drawn once, so that both precisions measure the same numbers."""
    x, key = data((5,), n=64), jax.random.key(2)
    noise = np.asarray(jax.random.normal(key, x.shape))
    monkeypatch.setattr(
        jax.random, "normal", lambda key, shape, dtype=None: jnp.asarray(noise, dtype)
    )
    chain = DiscreteVP.from_betas(jnp.linspace(0.02, 0.3, 10))
    for name in ("denoising_eps", "denoising_x0", "denoising_v", "elbo", "vlb", "continuous_elbo",
                 "girsanov"):  # fmt: skip
        single = np.asarray(LOSSES[name](0.3, key, chain, jnp.asarray(x)))
        with float64():
            double = LOSSES[name](0.3, key, as_float64(chain), jnp.asarray(np.float64(x)))
            double = np.asarray(double)
        assert double.dtype == np.float64
        np.testing.assert_allclose(single, double, rtol=1e-4, atol=1e-4 * np.abs(double).mean())
