"""α and σ of every process against the papers, drift and diffusion against finite differences."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from process_table import BETAS, PROCESSES, exact_scales
from process_tools import (
    INSIDE,
    H,
    drift_diffusion,
    every_chain,
    every_process,
    posterior,
    scales,
    transition,
    values,
)

from jaxdiff.processes import VE, VP, DiscreteVP, SubVP, chain_length
from jaxdiff.typing import InputError


@every_process
def test_alpha_and_sigma_are_the_published_formulas(name):
    t = np.float32([1e-4, 1e-3, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.9999, 1.0])
    alpha, sigma = exact_scales(name, t)
    actual = scales(PROCESSES[name].process, t)
    np.testing.assert_allclose(actual[0], alpha, rtol=1e-5)
    np.testing.assert_allclose(actual[1], sigma, rtol=1e-5)
    np.testing.assert_allclose(actual[2], 2 * np.log(alpha / sigma), rtol=2e-5, atol=2e-5)


@every_process
def test_data_starts_unscaled_and_noise_free(name):
    alpha, sigma, _ = scales(PROCESSES[name].process, 0.0)
    np.testing.assert_allclose(alpha, PROCESSES[name].alpha_0, rtol=1e-7)
    np.testing.assert_allclose(sigma, PROCESSES[name].sigma_0, rtol=1e-6, atol=2e-15)
    assert PROCESSES[name].process.starts_without_noise == (PROCESSES[name].sigma_0 == 0)


@every_process
def test_log_snr_falls_strictly(name):
    t = np.float32(np.concatenate([[0, 1e-5, 1e-4], np.linspace(1e-3, 1, 1200)]))
    assert np.all(np.diff(scales(PROCESSES[name].process, t)[2]) < 0)


def test_signal_never_increases_in_a_chain_with_decreasing_betas():
    process = DiscreteVP.from_betas(jnp.array([0.5, 0.01, 0.3, 0.001]))
    t = np.float32(np.linspace(0, 1, 20001))
    chex.assert_tree_all_finite(transition(process, s=t[:-1], t=t[1:])._asdict())
    assert np.all(np.diff(scales(process, t)[0]) <= 1e-6)


@jax.jit
def values_and_gradients(process, t):
    """Of all functions of a process and of time, by name."""
    x_t, x0 = jnp.array([[0.7, -2.0]]), jnp.array([[0.3, 1.0]])

    def pairs(prefix, take):
        return {
            f"{prefix} from 0 to t": lambda t: take(0.0, t),
            f"{prefix} from t to 1": lambda t: take(t, 1.0),
        }

    def mean(s, t):
        return jnp.sum(posterior(process, x_t, x0, s=s, t=t).mean)

    def std(s, t):
        return posterior(process, x_t, x0, s=s, t=t).std

    functions = {
        "alpha": process.alpha,
        "sigma": process.sigma,
        "log_snr": process.log_snr,
        "f": lambda t: drift_diffusion(process, t)[0],
        "g2": lambda t: drift_diffusion(process, t)[1],
        **pairs("scale", lambda s, t: transition(process, s=s, t=t).scale),
        **pairs("std", lambda s, t: transition(process, s=s, t=t).std),
        **pairs("posterior mean", mean),
        **pairs("posterior std", std),
    }
    return {
        what: dict(zip(("value", "gradient"), jax.value_and_grad(function)(t), strict=True))
        for what, function in functions.items()
    }


@every_process
def test_nothing_is_nan_or_infinite_at_either_end_in_value_or_gradient(name):
    chex.assert_tree_all_finite(
        {t: values_and_gradients(PROCESSES[name].process, t) for t in (0.0, 1.0)}
    )


@every_process
def test_drift_and_diffusion_are_finite_differences_of_alpha_and_sigma(name):
    later, earlier = values(name, INSIDE + H), values(name, INSIDE - H)
    slope_alpha, slope_variance, slope_snr = (
        (a - b) / (2 * H) for a, b in zip(later[:3], earlier[:3], strict=True)
    )
    _, variance, _, f, g2 = values(name, INSIDE)
    np.testing.assert_allclose(f, slope_alpha, rtol=1e-5)
    np.testing.assert_allclose(g2, slope_variance - 2 * slope_alpha * variance, rtol=1e-5)
    # The same in another way: d log SNR/dt = −g²/σ².
    np.testing.assert_allclose(g2, -variance * slope_snr, rtol=1e-4)


def test_drift_and_diffusion_are_those_of_song_et_al_2021():
    t = np.float32([0.0, 0.01, 0.3, 0.7, 1.0])
    beta = 0.1 + t * (20 - 0.1)
    f, g2 = drift_diffusion(VP(), t)
    np.testing.assert_allclose(f, -beta / 2, rtol=1e-5)
    np.testing.assert_allclose(g2, beta, rtol=1e-5)
    f, g2 = drift_diffusion(SubVP(), t)  # eq. 28
    fading = np.exp(-2 * (0.1 * t + 0.5 * 19.9 * t**2))
    np.testing.assert_allclose(f, -beta / 2, rtol=1e-5)
    np.testing.assert_allclose(g2, beta * (1 - fading), rtol=1e-5, atol=1e-6)
    f, g2 = drift_diffusion(VE(), t)  # eq. 30
    np.testing.assert_array_equal(f, np.zeros(5))
    np.testing.assert_allclose(g2, (0.01 * 5000**t) ** 2 * 2 * np.log(5000), rtol=1e-5)


@every_chain
def test_chain_has_constant_drift_and_diffusion_rates_between_its_nodes(name):
    T = PROCESSES[name].process.num_steps
    f, g2 = drift_diffusion(PROCESSES[name].process, np.float32([[3.2, 3.5, 3.9, 4.0]]) / T)
    if name in BETAS:  # β acts at a constant rate: f = ½T log(1 − β) on the fourth interval
        rate = T * np.log(1 - BETAS[name][3])
        np.testing.assert_allclose(f, np.full((1, 4), rate / 2), rtol=2e-3)
        np.testing.assert_allclose(g2, np.full((1, 4), -rate), rtol=2e-3)
    else:
        _, sigma = exact_scales(name, np.array([3, 4]) / T)
        np.testing.assert_allclose(g2, np.full((1, 4), T * np.diff(sigma**2)[0]), rtol=1e-4)


LENGTHS = {"ddpm_linear_1000": 1000, "ddpm_cosine_100": 100, "ncsn_232": 232}


@pytest.mark.parametrize("name", PROCESSES)
def test_only_chains_have_a_length(name):
    process = PROCESSES[name].process
    assert process.num_steps == LENGTHS.get(name)
    assert not process.ends_without_signal
    if name in LENGTHS:
        assert chain_length(process) == LENGTHS[name]
        return
    with pytest.raises(InputError, match=f"must be a chain, got {type(process).__name__}"):
        chain_length(process)
    with pytest.raises(InputError, match=f"must be a chain for .*, got {type(process).__name__}"):
        process.index(0.5)
