"""Chains that end without signal, β_T = 1 (Lin et al. 2024), against the exact Gaussian."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import normal
from quickly import first_is_quick

import jaxdiff
from jaxdiff import oracles, schedules
from jaxdiff.denoisers import denoiser
from jaxdiff.processes import VP, DiscreteVP
from jaxdiff.recipes import names
from jaxdiff.typing import InputError

LINEAR = schedules.linear_betas(100, beta_start=1e-3, beta_end=0.2)
BETAS = schedules.zero_terminal_snr(LINEAR)
CHAIN = DiscreteVP.from_betas(BETAS)
MEAN, STD = 3.0, 0.5


def test_rescaled_betas_shift_and_scale_the_roots_and_end_at_one():
    """Algorithm 1: √ᾱ' is affine in √ᾱ, the same at the first step and 0 at the last."""
    old, new = (np.sqrt(np.cumprod(1 - np.asarray(b, np.float64))) for b in (LINEAR, BETAS))
    assert BETAS[-1] == 1.0
    assert new[-1] == 0.0
    np.testing.assert_allclose(new[0], old[0], rtol=1e-6)
    slope, start = np.polyfit(old, new, 1)
    np.testing.assert_allclose(new, start + slope * old, atol=2e-5)  # 100 roundings of β
    assert slope > 1


def test_a_cosine_schedule_without_a_cap_ends_without_signal():
    chain = DiscreteVP.from_betas(schedules.cosine_betas(50, max_beta=1.0))
    assert chain.ends_without_signal
    assert not DiscreteVP.from_betas(schedules.cosine_betas(50)).ends_without_signal


def test_at_the_end_the_signal_is_below_rounding_and_all_is_finite():
    t = jnp.array([0.99, 0.995, 1.0], jnp.float32)
    alpha, sigma = jax.vmap(CHAIN.alpha)(t), jax.vmap(CHAIN.sigma)(t)
    assert np.float32(1.0) + alpha[-1] * 1e6 == np.float32(1.0)
    assert sigma[-1] == 1.0
    np.testing.assert_allclose(alpha[0], np.sqrt(np.prod(1 - np.asarray(BETAS[:-1]))), rtol=1e-4)
    slopes = jax.vmap(jax.grad(CHAIN.log_snr))(t)
    assert np.all(np.isfinite(slopes))


def exact_step(x, a, sigma, b, sigma_b):
    """A step of DDIM on N(3, ½²) from α = a to α = b, in closed form."""
    x0 = MEAN + a * STD**2 / (a**2 * STD**2 + sigma**2) * (x - a * MEAN)
    eps = sigma / (a**2 * STD**2 + sigma**2) * (x - a * MEAN)
    return b * x0 + sigma_b * eps


@functools.partial(jax.jit, static_argnums=0)
def endpoint(name, noise, times):
    """The sample of a solver with the exact model, and the model's estimate of x_0 from it."""
    exact = oracles.gaussian(CHAIN, jnp.full(1, MEAN), jnp.full((1, 1), STD**2))
    x = jaxdiff.sample(jax.random.key(0), names.STEPS[name](exact, CHAIN), noise, times)
    return x, exact(x, times[-1]).x0


def test_ddim_from_pure_noise_matches_its_closed_form():
    nodes = np.append(1.0, np.sqrt(np.cumprod(1 - np.asarray(BETAS, np.float64))))
    x = noise = np.random.default_rng(0).normal(size=(64, 1)).astype(np.float32)
    steps = np.linspace(100, 0, 6).astype(int)
    for t, s in itertools.pairwise(steps):
        a, b = nodes[t], nodes[s]
        x = exact_step(x, a, np.sqrt(1 - a**2), b, np.sqrt(1 - b**2))
    got, _ = endpoint("ddim", noise, np.float32(steps / 100))
    np.testing.assert_allclose(got, x, rtol=2e-5, atol=2e-5)


ODE = ["deis", "ddim", "dpm_2", "dpm_3", "dpmpp_2m", "dpmpp_2s", "dpmpp_3m", "dpmpp_3s", "heun",
       "rk4", "unipc"]  # fmt: skip
SDE = ["ancestral", "euler_maruyama", "reverse_diffusion", "sde_dpmpp_2m", "stochastic_heun"]


@functools.cache
def grids():
    """Grids down to the first node of the chain."""
    made = {name: names.TIME_GRIDS[name] for name in ("logistic", "log_snr")}
    return {name: np.asarray(make(CHAIN, 40, t_min=1e-2)) for name, make in made.items()}


@pytest.mark.parametrize("name", first_is_quick(ODE + SDE))
def test_every_solver_samples_from_pure_noise_to_the_data(name):
    """The path of the ODE from ε ends at 3 + ½ε; an SDE ends in that distribution.

    A chain that keeps a signal of α_T would start 3 α_T too low.
    """
    noise = normal((4000, 1), seed=1)
    for grid, times in grids().items():
        x = np.asarray(endpoint(name, noise, times)[1])
        if name in ODE:
            error = np.sqrt(np.mean((x - (MEAN + STD * noise)) ** 2))
            assert error < (0.04 if name == "ddim" else 0.01), grid
        else:
            assert abs(x.mean() - MEAN) < 5 * STD / np.sqrt(4000) + 0.2, grid
            assert abs(x.std() - STD) < 0.15, grid


@pytest.mark.parametrize("kind", ["eps", "score", "sigma_score"])
def test_noise_predictions_are_refused_at_the_end_and_others_are_finite(kind):
    with pytest.raises(
        InputError, match=f"kind must be x0, v or edm for a chain .*, got '{kind}'$"
    ):
        denoiser(lambda x, t: x, CHAIN, kind=kind)
    denoiser(lambda x, t: x, VP(), kind=kind)
    x = jnp.array([[1.0], [-2.0]])
    for defined in ("x0", "v", "edm"):
        views = denoiser(lambda x, t: 0.5 * x, CHAIN, kind=defined)(x, 1.0)
        np.testing.assert_allclose(views.eps, x, rtol=1e-6)  # at α = 0 the sample is the noise
        assert np.all(np.isfinite(views.x0))


@pytest.mark.parametrize("betas", [[0.1, 1.0, 0.1], [0.0, 0.5], [0.5, 1.1], [0.1, float("nan")]])
def test_only_the_last_beta_may_be_one(betas):
    with pytest.raises(
        InputError, match="betas must be strictly between 0 and 1, except that the last may be"
    ):
        DiscreteVP.from_betas(jnp.array(betas))
