"""Noise tables against the papers' formulas in float64; time grids against their guarantees."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import float64
from one_program import one_of
from process_table import NCSN_SIGMAS, PROCESSES, as_float64

from jaxdiff import processes, schedules
from jaxdiff.typing import InputError

LOW, HIGH = 1e-4, 0.02


def close(actual, expected, rtol=2e-6):
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=rtol)


@pytest.mark.parametrize("num_steps", [1, 2, 1000])
def test_betas_are_the_published_formulas(num_steps):
    i = np.arange(num_steps) / max(num_steps - 1, 1)
    close(schedules.linear_betas(num_steps), LOW + i * (HIGH - LOW))
    close(schedules.quadratic_betas(num_steps), (LOW**0.5 + i * (HIGH**0.5 - LOW**0.5)) ** 2)
    logistic = 1 / (1 + np.exp(-(-6 + 12 * i)))
    close(schedules.sigmoid_betas(num_steps), LOW + (HIGH - LOW) * logistic)
    close(schedules.constant_betas(num_steps, beta=0.3), np.full(num_steps, 0.3))


@pytest.mark.parametrize("num_steps", [1, 10, 100, 1000, 4000])
def test_cosine_betas_are_nichol_and_dhariwal_equation_17(num_steps):
    t = np.arange(num_steps + 1) / num_steps
    alpha_bar = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
    betas = np.minimum(1 - alpha_bar[1:] / alpha_bar[:-1], 0.999)
    close(schedules.cosine_betas(num_steps), betas, rtol=3e-6)
    assert schedules.cosine_betas(num_steps)[-1] == np.float32(0.999)


def test_linear_chain_of_1000_steps_ends_at_the_alpha_bar_of_ho_2020():
    # The last alphas_cumprod of the public DDPM schedule (hojonathanho/diffusion; diffusers).
    betas = np.asarray(schedules.linear_betas(1000), np.float64)
    close(np.prod(1 - betas), 4.0358e-05, rtol=1e-5)


def test_geometric_sigmas_have_a_constant_ratio_and_exact_ends():
    sigmas = np.asarray(NCSN_SIGMAS, np.float64)
    close(sigmas[1:] / sigmas[:-1], np.full(231, 5000 ** (1 / 231)))
    close(sigmas[[0, -1]], [0.01, 50.0])
    # Song & Ermon 2020, technique 2: with 232 noise scales on CIFAR-10 the ratio is about 1.037.
    close(sigmas[1] / sigmas[0], 1.037, rtol=1e-3)
    close(schedules.geometric_sigmas(1, sigma_min=0.5, sigma_max=2.0), [0.5])


GRIDS = {
    "uniform": lambda process, num_steps, **ends: schedules.uniform_times(num_steps, **ends),
    "quadratic": lambda process, num_steps, **ends: schedules.quadratic_times(num_steps, **ends),
    "log_snr": schedules.log_snr_times,
    "karras": schedules.karras_times,
    "logistic": schedules.logistic_times,
}


RHOS = (0.7, 2.0, 30.0)


@jax.jit
def every_grid(process):
    ends = {"t_max": 0.9, "t_min": 2e-3}
    logistic = [schedules.logistic_times(process, 40, rho=rho, **ends) for rho in RHOS]
    return {name: grid(process, 40, **ends) for name, grid in GRIDS.items()}, logistic


@functools.cache
def grids_of(name):
    """Grids by name, with a logistic one for each ρ."""
    return jax.device_get(every_grid(one_of(name)))


log_snr = jax.jit(lambda process, times: process.log_snr(times))


def log_snr_of(name, times):
    with float64():
        return np.asarray(log_snr(one_of(name), np.asarray(times, np.float64)))


def assert_decreasing(times, num_steps, t_max, t_min):
    assert np.shape(times) == (num_steps + 1,)
    assert np.all(np.diff(times) < 0)
    assert times[0] == np.float32(t_max)
    assert times[-1] == np.float32(t_min)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize("grid", GRIDS)
def test_grids_decrease_strictly_between_exactly_the_given_ends(grid, name):
    assert_decreasing(grids_of(name)[0][grid], 40, 0.9, 2e-3)


@pytest.mark.parametrize("grid", GRIDS)
def test_one_step_is_one_pair_of_times(grid):
    assert_decreasing(GRIDS[grid](PROCESSES["vp"].process, 1, t_min=1e-3), 1, 1.0, 1e-3)


@pytest.mark.parametrize("name", ["vp", "ve"])
@pytest.mark.parametrize("grid", ["uniform", "quadratic", "logistic"])
def test_grids_may_end_at_t_0(grid, name):
    times = GRIDS[grid](PROCESSES[name].process, 1000)
    assert times[-1] == 0
    assert np.all(np.diff(times) < 0)


def test_uniform_times_are_evenly_spaced_and_quadratic_times_in_their_root():
    k = np.arange(11) / 10
    close(schedules.uniform_times(10, t_max=0.9, t_min=0.1), 0.9 - 0.8 * k)
    close(schedules.quadratic_times(10, t_max=0.81, t_min=0.04), (0.9 - 0.7 * k) ** 2)


@pytest.mark.parametrize("name", PROCESSES)
def test_log_snr_times_space_log_snr_evenly(name):
    log_snr = log_snr_of(name, grids_of(name)[0]["log_snr"])
    np.testing.assert_allclose(log_snr, np.linspace(log_snr[0], log_snr[-1], 41), atol=5e-5)


@pytest.mark.parametrize("name", PROCESSES)
def test_karras_times_space_the_root_of_the_noise_to_signal_ratio_evenly(name):
    roots = np.exp(-0.5 * log_snr_of(name, grids_of(name)[0]["karras"])) ** (1 / 7)
    np.testing.assert_allclose(roots, np.linspace(roots[0], roots[-1], 41), rtol=5e-6)


@pytest.mark.parametrize("rho", RHOS)
@pytest.mark.parametrize("name", PROCESSES)
def test_logistic_times_space_the_fraction_of_noise_evenly(name, rho):
    roots = np.exp(-0.5 * log_snr_of(name, grids_of(name)[1][RHOS.index(rho)])) ** (1 / rho)
    fractions = roots / (1 + roots)
    np.testing.assert_allclose(fractions, np.linspace(fractions[0], fractions[-1], 41), atol=2e-6)


def test_logistic_times_are_symmetric_in_data_and_noise():
    """A process whose σ/α runs from 1/r to r has the same grid from either end."""
    process = processes.VE(sigma_min=1 / 40, sigma_max=40.0)
    times = np.asarray(schedules.logistic_times(process, 9))
    np.testing.assert_allclose(times, 1 - times[::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("requested", "used"),
    [((0.02, 40.0), (0.02, 40.0)), ((0.002, 80.0), (0.01, 50.0))],
    ids=["within", "clipped to the range of the process"],
)
def test_karras_times_are_edm_equation_5(requested, used):
    low, high = used[0] ** (1 / 7), used[1] ** (1 / 7)
    sigmas = (high + np.arange(19) / 18 * (low - high)) ** 7
    process = processes.VE(sigma_min=0.01, sigma_max=50.0)
    times = schedules.karras_times(process, 18, sigma_min=requested[0], sigma_max=requested[1])
    np.testing.assert_allclose(times, np.log(sigmas / 0.01) / np.log(5000), atol=2e-6)


@pytest.mark.parametrize(
    "ratios",
    [
        {"sigma_min": 60.0, "sigma_max": 80.0},  # both beyond the range of the process
        {"sigma_min": 100.0},
        {"sigma_max": 0.005},  # below the ratio at t_min
        {"sigma_min": 2.0, "sigma_max": 1.0},
        {"sigma_min": 0.0, "sigma_max": 1.0},
        {"rho": 0.0},
    ],
    ids=str,
)
def test_karras_times_refuse_ratios_that_leave_no_decreasing_grid(ratios):
    with pytest.raises(InputError):
        schedules.karras_times(processes.VE(), 4, **ratios)


@pytest.mark.parametrize("name", ["vp", "learned_vp"])
def test_times_have_the_gradients_of_the_implicit_function(name):
    """In the level, since log SNR of the time is the level; in the process, by differences."""
    with float64():
        process, levels = as_float64(PROCESSES[name].process), np.array([-3.0, 0.1, 4.0])

        @jax.jit
        @jax.value_and_grad
        def times(process):
            return jnp.sum(jnp.sin(5 * schedules.time_at_log_snr(process, levels)))

        @jax.jit
        @jax.vmap
        def slopes(level):
            def there_and_back(level):
                return process.log_snr(schedules.time_at_log_snr(process, level))

            return jax.grad(there_and_back)(level), jax.hessian(there_and_back)(level)

        first, second = slopes(levels)
        np.testing.assert_allclose(first, 1, rtol=1e-9)
        np.testing.assert_allclose(second, 0, atol=1e-7)
        rng, (leaves, tree), h = np.random.default_rng(0), jax.tree.flatten(process), 1e-6
        leaves = [np.asarray(leaf) for leaf in leaves]
        way = [rng.normal(size=leaf.shape) for leaf in leaves]
        gradient = jax.tree.leaves(times(process)[1])

        def moved(sign):
            return tree.unflatten([a + sign * h * b for a, b in zip(leaves, way, strict=True)])

        difference = (float(times(moved(1))[0]) - float(times(moved(-1))[0])) / (2 * h)
        along = sum(np.sum(np.asarray(a) * b) for a, b in zip(gradient, way, strict=True))
        assert along == pytest.approx(difference, rel=1e-5, abs=1e-8)
        assert abs(difference) > 1e-6


def test_log_snr_times_refuse_t_0_where_log_snr_diverges():
    with pytest.raises(InputError, match="t_min"):
        schedules.log_snr_times(PROCESSES["vp"].process, 4, t_min=0.0)


@pytest.mark.parametrize("name", ["ve", "learned_vp"])
def test_log_snr_times_reach_t_0_where_log_snr_is_finite(name):
    process = PROCESSES[name].process
    times = schedules.log_snr_times(process, 4, t_min=0.0)
    assert times[-1] == 0
    close(
        process.log_snr(times), np.linspace(*process.log_snr(jnp.array([1.0, 0.0])), 5), rtol=1e-4
    )
