"""DDPM's training losses against the bound, and the weights that turn one loss into another."""

import functools
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close, float64
from gaussian_bound import N, bound, by_hand, data, divergence, error, key_of, shrunk
from known_times import at_times
from one_program import one_of
from process_table import BETAS, PROCESSES, exact_scales

from jaxdiff import losses, processes
from jaxdiff.losses import weights
from jaxdiff.predictions import Denoised, DenoisedWithVariance
from jaxdiff.processes import VP

every_process = pytest.mark.parametrize("name", PROCESSES)
T, EACH = 10, 4000
NODES = np.arange(1, T + 1) / T


@jax.jit
def vlb(key, process, x0, t, fraction, shrink):
    process = at_times(process, NODES, 0.5 * NODES[0])
    model = shrunk(process, shrink)
    return losses.vlb(key, model, process, x0, t, num_steps=T, variance_fraction=fraction)


def term_by_hand(name, fraction, shrink):
    """T times each term of the bound for i = 1 … T, [T], in float64 from the papers' formulas."""
    times = np.float64(np.float32(NODES))
    alpha, sigma = exact_scales(name, times)
    snr = (alpha / sigma) ** 2
    missed = error(snr, shrink)
    gap = (snr[:-1] - snr[1:]) * missed[1:]
    kl = divergence((sigma[1:] / sigma[:-1]) ** 2, gap, fraction)
    decode = by_hand(name, times[::-1], fraction, shrink)[1]
    return T * np.append(decode, kl)


@pytest.mark.parametrize("name", ["vp", "subvp", "ve", "ddpm_linear_1000", "ncsn_232"])
@pytest.mark.parametrize("shrink", [1.0, 0.7])
def test_each_term_and_the_mean_over_the_chain_match_the_bound(name, shrink):
    process, fraction = one_of(name), 0.3
    x0, t = np.tile(data(EACH), (T, 1)), np.repeat(np.float32(NODES), EACH)
    found = vlb(key_of(0), process, x0, t, fraction, shrink).reshape(T, EACH).T
    assert_mean_close(found, term_by_hand(name, fraction, shrink))
    times = np.float32(NODES[::-1])
    whole = bound(key_of(1), process, data(), times, fraction, shrink)
    whole = np.float64(whole.denoising) + np.float64(whole.reconstruction)
    mean = np.float64(found).mean(axis=1)
    spread = np.hypot(mean.std() / np.sqrt(EACH), whole.std() / np.sqrt(N))
    assert abs(mean.mean() - whole.mean()) <= 5 * spread


def test_the_last_step_uses_the_given_decoder():
    def decoder(x0, mean, std):
        return 100 * x0[:, 0] + mean[:, 0] + std[:, None].sum(axis=1)

    @functools.partial(jax.jit, static_argnums=2)
    def loss(x0, t, decoder):
        model = lambda x, t: Denoised(0 * x + 7, x)  # noqa: E731
        return losses.vlb(jax.random.key(0), model, VP(), x0, t, num_steps=10, decoder=decoder)

    x0, t = data(3), np.float32([0.1, 0.2, 1.0])
    plain, own = (np.asarray(loss(x0, t, d)) for d in (losses.decoders.gaussian, decoder))
    np.testing.assert_array_equal(plain[1:], own[1:])
    alpha, sigma = exact_scales("vp", np.float32(0.1))
    np.testing.assert_allclose(own[0], -10 * (100 * x0[0, 0] + 7 + sigma / alpha), rtol=1e-5)


# ---- L_hybrid: two parameters, one for each half of the estimate.
LAMBDA = 0.01
HYBRID_T = np.float32([0.1, 0.2, 0.5, 1.0])


def two_headed(parameters):
    a, b = parameters

    def model(x, t):
        eps = a * x
        alpha, sigma = VP().alpha(t)[:, None], VP().sigma(t)[:, None]
        return DenoisedWithVariance((x - sigma * eps) / alpha, eps, b + 0 * x)

    return model


def each_loss(parameters):
    """Hybrid, simple and vlb of the same draws; hybrid of two more kinds; ``[batch]`` each."""
    arguments = jax.random.key(0), two_headed(parameters), VP(), data(4), jnp.asarray(HYBRID_T)
    hybrid = functools.partial(losses.hybrid, *arguments, num_steps=10)
    return (
        hybrid(vlb_weight=LAMBDA),
        losses.denoising(*arguments),
        losses.vlb(*arguments, num_steps=10),
        hybrid(),
        hybrid(decoder=lambda x0, mean, std: 0 * x0[:, 0] - 5),
    )


@pytest.fixture(scope="module")
def hybrid_losses():
    """The losses, and the slopes of each loss in both parameters."""
    at = jnp.float32(0.4), jnp.float32(0.3)

    @jax.jit
    def along(a, b):
        return jax.jvp(each_loss, (at,), ((a, b),))

    (values, of_a), (_, of_b) = along(1.0, 0.0), along(0.0, 1.0)
    return jax.device_get((values, list(zip(of_a, of_b, strict=True))))


def test_hybrid_trains_the_estimate_by_l_simple_and_the_variance_by_the_bound(
    hybrid_losses,
):
    (hybrid, simple, whole, *_), (of_hybrid, of_simple, of_bound, *_) = hybrid_losses
    np.testing.assert_allclose(hybrid, simple + LAMBDA * whole, rtol=1e-5)
    np.testing.assert_allclose(of_hybrid[0], of_simple[0], rtol=1e-5)
    np.testing.assert_allclose(of_hybrid[1], LAMBDA * of_bound[1], rtol=1e-5)
    np.testing.assert_array_equal(of_simple[1], np.zeros(4))
    assert np.all(np.abs(LAMBDA * of_bound[0]) > 1e-4 * np.abs(of_simple[0]))  # which is stopped
    assert of_hybrid[1][0] == 0  # the decoder has its own width
    assert np.all(np.abs(of_hybrid[1][1:]) > 1e-6)


def test_hybrid_weights_the_bound_by_a_thousandth_by_default(hybrid_losses):
    (_, simple, whole, found, discretized), _ = hybrid_losses
    np.testing.assert_allclose(found - simple, 1e-3 * whole, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(discretized[0] - simple[0], 1e-3 * 10 * 5, rtol=1e-3)
    np.testing.assert_array_equal(discretized[1:], found[1:])


@jax.jit
def slope_of_hybrid(process, b, x0):
    process = at_times(process, HYBRID_T, HYBRID_T - 0.1, 0.5 * HYBRID_T)

    def loss(b):
        def model(x, t):
            alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
            return DenoisedWithVariance((x - sigma * b * x) / alpha, b * x, b + 0 * x)

        return jnp.sum(
            losses.hybrid(
                jax.random.key(0), model, process, x0, jnp.asarray(HYBRID_T), num_steps=10
            )
        )

    return jax.value_and_grad(loss)(b)


@every_process
def test_hybrid_is_finite_with_a_finite_slope_for_every_process(name):
    chex.assert_tree_all_finite(slope_of_hybrid(one_of(name), 0.3, data(4)))


# ---- Weights.
STEPS = 20
WEIGHT_T = np.array([1, 2, 7, 13, STEPS]) / STEPS
X0 = np.random.default_rng(0).standard_normal((len(WEIGHT_T), 3))


def linear(process):
    """x̂_0 = 0.5 x_t/(1 + σ²) at its own noise: wrong at every time, and both views agree."""

    def model(x, t):
        sigma = process.sigma(t)[:, None]
        alpha = process.alpha(t)[:, None]
        x0 = 0.5 * x / (1 + sigma**2)
        return Denoised(x0, (x - alpha * x0) / sigma)

    return model


@jax.jit
def mean_distance(process, x0, t):
    """Weighted loss of each target, and ‖μ(x_t, x_0) − μ(x_t, x̂_0)‖², from the same draw."""
    s = jnp.maximum(t - 1 / STEPS, 0.0)
    process = at_times(process, s, t)
    key, model = jax.random.key(0), linear(process)

    def weighted(target):
        weight_fn = functools.partial(weights.posterior, num_steps=STEPS, target=target)
        return losses.denoising(key, model, process, x0, t, target=target, weight_fn=weight_fn)

    x_t, _ = processes.perturb(key, process, x0, t)
    true, _ = processes.posterior(process, x_t, x0, s=s, t=t)
    guess, _ = processes.posterior(process, x_t, model(x_t, t).x0, s=s, t=t)
    losses_of = {target: weighted(target) for target in get_args(weights.Target)}
    return losses_of, jnp.sum(jnp.square(true - guess), axis=1)


@every_process
def test_posterior_weight_measures_the_error_in_the_mean_of_the_step_for_every_target(name):
    with float64():
        weighted, distance = mean_distance(one_of(name), X0, WEIGHT_T)
    for found in weighted.values():
        np.testing.assert_allclose(found, distance, rtol=1e-7)
    chex.assert_tree_all_finite(mean_distance(one_of(name), np.float32(X0), np.float32(WEIGHT_T)))


@functools.partial(jax.jit, static_argnums=2)
def posterior_weight(process, t, num_steps):
    return weights.posterior(process, t, num_steps=num_steps)


@pytest.mark.parametrize("name", BETAS)
def test_posterior_weight_of_ddpm_matches_equation_12(name):
    """Ho et al. 2020, eq. 12: ‖Δμ‖² = β²/[(1 − β)(1 − ᾱ)] ‖ε − ε̂‖²."""
    betas = BETAS[name]
    alpha_bars, num_steps = np.cumprod(1 - betas), len(betas)
    with float64():
        process = processes.DiscreteVP.from_betas(jnp.asarray(betas))
        t = np.arange(1, num_steps + 1) / num_steps
        found = posterior_weight(process, t, num_steps)
    expected = betas**2 / ((1 - betas) * (1 - alpha_bars))
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    process = PROCESSES[name].process
    found = posterior_weight(process, np.float32(t), num_steps)
    np.testing.assert_allclose(found, expected, rtol=5e-3)  # differences of neighbours in float32


@jax.jit
def divergence_of_step(process, x0, guess, t):
    """Weight, standard deviation and divergence of the steps to t − 1/T."""
    s = t - 1 / STEPS
    process = at_times(process, s, t)
    weight = weights.posterior(process, t, num_steps=STEPS, target="x0")
    _, std = processes.posterior(process, x0, x0, s=s, t=t)
    return weight, std, losses.posterior_kl(process, x0, Denoised(guess, guess), s=s, t=t)


@every_process
def test_distance_over_twice_the_variance_is_the_divergence_of_the_step(name):
    """L_{t−1} of Ho et al. 2020, eq. 8, at the posterior's own variance."""
    with float64():
        weight, std, kl = divergence_of_step(one_of(name), X0[1:], X0[1:] ** 2, WEIGHT_T[1:])
    distance = np.asarray(weight) * np.sum((X0[1:] - X0[1:] ** 2) ** 2, axis=1)
    np.testing.assert_allclose(kl, distance / (2 * np.asarray(std) ** 2), rtol=1e-10)


@jax.jit
def p2_weights(process, t, gamma, k):
    process = at_times(process, t)
    return {
        target: weights.p2(process, t, gamma=gamma, k=k, target=target)
        for target in get_args(weights.Target)
    }


@every_process
@pytest.mark.parametrize(("gamma", "k"), [(0.0, 1.0), (0.5, 1.0), (1.0, 1.0), (2.0, 0.3)])
def test_p2_weight_matches_its_formula_for_every_target(name, gamma, k):
    """Choi et al. 2022: (k + SNR)^−γ on ε; Δε = −(α/σ)Δx_0, Δv = −(α² + σ²)/σ Δx_0, −Δε/σ."""
    alpha, sigma = exact_scales(name, WEIGHT_T)
    snr = (alpha / sigma) ** 2
    expected = (k + snr) ** -gamma
    per_error = {
        "eps": 1.0,
        "x0": snr,
        "v": (alpha / (alpha**2 + sigma**2)) ** 2,
        "score": sigma**2,
    }
    with float64():
        found = p2_weights(one_of(name), WEIGHT_T, gamma, k)
    for target, factor in per_error.items():
        np.testing.assert_allclose(found[target], expected * factor, rtol=1e-4)


def test_p2_of_strength_0_is_l_simple_and_its_default_is_one_over_one_plus_snr():
    @jax.jit
    def found(x0, t):
        weigh = functools.partial(losses.denoising, jax.random.key(0), linear(VP()), VP(), x0, t)
        without = weigh(weight_fn=functools.partial(weights.p2, gamma=0.0))
        return without, weigh(), weights.p2(VP(), t)

    t = np.float32(WEIGHT_T)
    without, simple, default = found(np.float32(X0), t)
    np.testing.assert_allclose(without, simple, rtol=1e-6)
    np.testing.assert_allclose(default, exact_scales("vp", t)[1] ** 2, rtol=1e-4)  # 1/(1 + SNR)


@jax.jit
def new_weights(process, ends):
    after_a_step = jnp.maximum(ends, 1 / STEPS)
    process = at_times(process, ends, after_a_step, after_a_step - 1 / STEPS)
    posterior = weights.posterior(process, after_a_step, num_steps=STEPS)
    return jnp.stack([weights.p2(process, ends), posterior])


@every_process
def test_new_weights_are_finite_and_positive_at_both_ends(name):
    found = new_weights(one_of(name), np.float32([0.0, 1.0]))
    chex.assert_tree_all_finite(found)
    assert np.all(found >= 0)
