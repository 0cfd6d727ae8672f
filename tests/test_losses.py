"""The denoising loss against the exact value, its weights against each other, its times."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close, float64
from known_times import at_times
from one_program import one_of
from process_table import PROCESSES, exact_scales

from jaxdiff import losses, oracles, processes
from jaxdiff.losses import times, weights
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VP
from jaxdiff.typing import InputError

every_process = pytest.mark.parametrize("name", PROCESSES)

MEAN = np.float32([0.5, -1.0])
COV = np.float32([[1.0, 0.5], [0.5, 0.6]])
TARGETS = ("eps", "x0", "v", "score")
T = np.float32([0.05, 0.1237, 0.6213, 1.0])


def draw(n):
    noise = np.random.default_rng(0).standard_normal((n, 2))
    return np.float32(MEAN + noise @ np.linalg.cholesky(COV).T)


def minimum(target, alpha, sigma, cov=COV):
    """tr Cov(target | x_t) for Gaussian data, from the joint distribution of target and x_t."""
    one = np.eye(len(cov))
    own, shared = {
        "eps": (one, sigma * one),
        "x0": (cov, alpha * cov),
        "v": (alpha**2 * one + sigma**2 * cov, alpha * sigma * (one - cov)),
        "score": (one / sigma**2, -one),
    }[target]
    noisy = alpha**2 * cov + sigma**2 * one
    return np.trace(own - shared @ np.linalg.solve(noisy, shared.T))


@jax.jit
def losses_of_the_exact_model(process, x0, t):
    exact = oracles.gaussian(process, jnp.array(MEAN.tolist()), jnp.array(COV.tolist()))
    return {
        target: losses.denoising(jax.random.key(0), exact, process, x0, t, target=target)
        for target in TARGETS
    }


@every_process
def test_loss_of_the_exact_model_is_minimal_at_every_time_for_every_target(name):
    n = 3000
    x0, t = np.tile(draw(n), (len(T), 1)), np.repeat(T, n)
    for target, found in losses_of_the_exact_model(one_of(name), x0, t).items():
        expected = [minimum(target, *exact_scales(name, each)) for each in T]
        assert_mean_close(found.reshape(len(T), n).T, expected)


def test_loss_is_the_squared_distance_by_hand():
    key, x0 = (
        jax.random.key(3),
        np.random.default_rng(0).standard_normal((4, 2, 2, 1)).astype(np.float32),
    )

    @jax.jit
    def drawn(x0, t):
        def loss(target):
            denoise_fn = lambda x, t: Denoised(0.5 * x, 0.3 * x)  # noqa: E731
            weight_fn = lambda _, t: jnp.arange(4.0)  # noqa: E731
            return losses.denoising(
                key, denoise_fn, VP(), x0, t, target=target, weight_fn=weight_fn
            )

        return processes.perturb(key, VP(), x0, t), {target: loss(target) for target in TARGETS}

    (x_t, eps), found = jax.device_get(drawn(x0, T))
    alpha, sigma = (scale.reshape(4, 1, 1, 1) for scale in exact_scales("vp", T))

    errors = {
        "eps": eps - 0.3 * x_t,
        "x0": x0 - 0.5 * x_t,
        "v": (alpha * eps - sigma * x0) - (alpha * 0.3 - sigma * 0.5) * x_t,
        "score": (0.3 * x_t - eps) / sigma,
    }
    for target, error in errors.items():
        expected = np.array([0.0, 1.0, 2.0, 3.0]) * np.sum(error**2, axis=(1, 2, 3))
        np.testing.assert_allclose(found[target], expected, rtol=1e-4)


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0, 0, None, None, None))
@jax.grad
def gradient(parameters, x0, key, process, scales, t):
    """Gradient of the loss of one example in a linear model of the noise."""
    alpha, sigma = scales

    def linear(x_t, t):
        eps = x_t @ parameters[0].T + parameters[1][None]
        return Denoised((x_t - sigma * eps) / alpha, eps)

    return losses.denoising(key, linear, process, x0[None], jnp.full(1, t))[0]


@every_process
def test_gradient_vanishes_at_the_closed_form_optimum_and_nowhere_near_it(name):
    n, t = 4000, 0.3711
    alpha, sigma = exact_scales(name, t)
    weight = sigma * np.linalg.inv(alpha**2 * COV + sigma**2 * np.eye(2))
    best = np.float32(weight), np.float32(-weight @ (alpha * MEAN))
    keys = jax.random.split(jax.random.key(1), n)
    rest = draw(n), keys, one_of(name), np.float32([alpha, sigma]), t
    for part in gradient(best, *rest):
        assert_mean_close(part, np.zeros(part.shape[1:]))
    with pytest.raises(AssertionError, match="standard errors away"):
        assert_mean_close(gradient((0.8 * best[0], best[1]), *rest)[0], np.zeros((2, 2)))


WEIGHTS = {
    "eps": weights.eps,
    "x0": weights.x0,
    "likelihood": weights.likelihood,
    "likelihood_weighting": weights.likelihood_weighting,
    "min_snr": weights.min_snr,
    "p2": weights.p2,
    "edm": weights.edm,
}


@jax.jit
def weights_of(process, t):
    process = at_times(process, t)
    return {
        weighting: {target: weight_fn(process, t, target=target) for target in TARGETS}
        for weighting, weight_fn in WEIGHTS.items()
    }


@functools.cache
def every_weight(name):
    """Every weighting for every target, at the times T, in float64."""
    with float64():
        found = jax.device_get(weights_of(one_of(name), np.float64(T)))
    return {
        (weighting, target): weight
        for weighting, of_target in found.items()
        for target, weight in of_target.items()
    }


@every_process
def test_the_target_never_changes_a_weighted_loss(name):
    # One error in x0, expressed in the other views: α Δx0 + σ Δε = 0.
    alpha, sigma = exact_scales(name, T)
    x0 = 0.7
    eps = -alpha * x0 / sigma
    errors = {"eps": eps, "x0": x0, "v": alpha * eps - sigma * x0, "score": -eps / sigma}
    for weighting in WEIGHTS:
        found = [every_weight(name)[weighting, target] * errors[target] ** 2 for target in TARGETS]
        np.testing.assert_allclose(found, np.tile(found[0], (4, 1)), rtol=1e-4)


@every_process
def test_weights_are_the_published_formulas(name):
    alpha, sigma = exact_scales(name, T)
    snr, found = (alpha / sigma) ** 2, every_weight(name)
    expected = {
        ("eps", "eps"): np.ones(4),
        ("eps", "score"): sigma**2,  # Song & Ermon 2019
        ("x0", "x0"): np.ones(4),
        ("min_snr", "x0"): np.minimum(snr, 5.0),  # Hang et al. 2023
        ("p2", "eps"): 1 / (1 + snr),  # Choi et al. 2022
    }
    if name in ("ve", "ve_348", "ncsn_232"):  # Karras et al. 2022, table 1, where α = 1
        expected["edm", "x0"] = (sigma**2 + 0.5**2) / (sigma * 0.5) ** 2
    for which, weight in expected.items():
        np.testing.assert_allclose(found[which], weight, rtol=1e-4)


@every_process
def test_likelihood_weight_is_half_the_rate_at_which_snr_falls(name):
    # Kingma et al. 2021, eq. 18: −½ SNR'(t) ‖x_0 − x̂_0‖².
    h, t = 1e-6, np.array([0.0537, 0.1237, 0.6213, 0.8887])
    with float64():
        weight = weights_of(one_of(name), t)["likelihood"]["x0"]
    (alpha, sigma), (alpha_h, sigma_h) = exact_scales(name, t - h), exact_scales(name, t + h)
    slope = ((alpha_h / sigma_h) ** 2 - (alpha / sigma) ** 2) / (2 * h)
    # The chains' tables are float32; their differences lose digits.
    np.testing.assert_allclose(weight, -0.5 * slope, rtol=2e-4)


@every_process
def test_edm_weight_measures_the_error_in_f(name):
    # The error that one Δx0 causes in F = (σ x_0 − α σ_d² ε)/(σ_d √(α²σ_d² + σ²)).
    d = 0.5
    alpha, sigma = exact_scales(name, T)
    in_f = (sigma + alpha**2 * d**2 / sigma) / (d * np.sqrt((alpha * d) ** 2 + sigma**2))
    np.testing.assert_allclose(every_weight(name)["edm", "x0"], in_f**2, rtol=1e-4)


@every_process
def test_weights_on_eps_are_finite_at_both_ends(name):
    every = weights_of(one_of(name), np.float32([0.0, 0.0, 1.0, 1.0]))
    found = [every[bounded]["eps"] for bounded in ("eps", "x0", "min_snr", "edm")]
    chex.assert_tree_all_finite(found)
    assert np.all(np.asarray(found) >= 0)


def test_an_unknown_target_is_refused():
    with pytest.raises(InputError, match="eps, x0, v, score"):
        weights.eps(PROCESSES["vp"].process, jnp.ones(1), target="noise")
    x0, t = jnp.ones((1, 2)), jnp.ones(1)
    exact = oracles.gaussian(PROCESSES["vp"].process, MEAN, COV)
    with pytest.raises(InputError, match="noise"):
        losses.denoising(jax.random.key(0), exact, PROCESSES["vp"].process, x0, t, target="noise")


SAMPLERS = {"uniform": times.uniform, "stratified": times.stratified}
BATCH = 8


@functools.cache
def sampled(sampler, repeats=3000, **options):
    keys = jax.random.split(jax.random.key(0), repeats)
    draw_batch = functools.partial(SAMPLERS[sampler], n=BATCH, **options)
    return jax.device_get(jax.jit(jax.vmap(draw_batch))(keys))


# h(t) and its mean over U(0.1, 0.9).
FUNCTIONS = {
    "t": (lambda t: t, 0.5),
    "t^2": (lambda t: t**2, (0.9**3 - 0.1**3) / 3 / 0.8),
    "1/t": (lambda t: 1 / t, np.log(9) / 0.8),
    "sin 9t": (lambda t: np.sin(9 * t), (np.cos(0.9) - np.cos(8.1)) / 9 / 0.8),
}


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_weighted_times_average_every_function_without_bias(function, sampler):
    t, weight = sampled(sampler, t_min=0.1, t_max=0.9)
    h, mean = FUNCTIONS[function]
    assert_mean_close(np.mean(weight * h(np.float64(t)), axis=1), mean)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_times_lie_above_t_min_up_to_t_max_and_each_is_uniform(sampler):
    t, _ = sampled(sampler, t_min=0.1, t_max=0.9)
    assert t.min() > 0.1
    assert t.max() <= np.float32(0.9)
    for place in (0, 3, BATCH - 1):  # for any example of a batch
        assert_equally_frequent(np.histogram(t[:, place], bins=20, range=(0.1, 0.9))[0])
    default, _ = sampled(sampler)
    assert default.min() > 0
    assert default.max() <= 1


def assert_equally_frequent(counts, z=5.0):
    expected = np.sum(counts) / len(counts)
    freedom = len(counts) - 1
    excess = (np.sum((counts - expected) ** 2 / expected) - freedom) / np.sqrt(2 * freedom)
    assert excess <= z, f"chi-square is {excess:.1f} standard deviations above its mean"


def test_stratified_times_are_evenly_spaced_and_their_mean_varies_n_times_less():
    t, _ = sampled("stratified", t_min=0.1, t_max=0.9)
    gaps = np.diff(np.sort(t, axis=1), axis=1)
    np.testing.assert_allclose(gaps, np.full((3000, BATCH - 1), 0.1), atol=1e-6)
    spread = (np.float64(t).mean(1) - 0.5) ** 2
    assert_mean_close(spread, 0.8**2 / 12 / BATCH**2)
    independent, _ = sampled("uniform", t_min=0.1, t_max=0.9)
    assert_mean_close((np.float64(independent).mean(1) - 0.5) ** 2, 0.8**2 / 12 / BATCH)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("num_steps", [7, 1000])
def test_times_of_a_chain_are_its_nodes_equally_often(num_steps, sampler):
    t, weight = sampled(sampler, num_steps=num_steps)
    index = np.rint(np.float64(t) * num_steps).astype(int)
    np.testing.assert_allclose(t, index / num_steps, rtol=2e-7)  # the last bit of float32
    assert index.min() >= 1
    assert index.max() <= num_steps
    np.testing.assert_array_equal(weight, np.ones_like(t))
    one_each = index if sampler == "uniform" else index[:, 0]
    assert_equally_frequent(np.bincount(one_each.ravel(), minlength=num_steps + 1)[1:])
