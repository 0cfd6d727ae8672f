"""Invalid arguments of schedules and time grids are refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from process_table import PROCESSES
from test_schedules import GRIDS

from jaxdiff import denoisers, guidance, losses, processes, schedules, solvers
from jaxdiff.typing import InputError


@pytest.mark.parametrize(
    ("table", "options"),
    [
        (schedules.linear_betas, {"num_steps": 0}),
        (schedules.linear_betas, {"num_steps": 3, "beta_end": 1.0}),
        (schedules.quadratic_betas, {"num_steps": 3, "beta_start": -0.1}),
        (schedules.constant_betas, {"num_steps": 3, "beta": 0.0}),
        (schedules.sigmoid_betas, {"num_steps": 3, "beta_start": math.nan}),
        (schedules.cosine_betas, {"num_steps": 3, "max_beta": 1.1}),
        (schedules.geometric_sigmas, {"num_scales": 0, "sigma_min": 0.1, "sigma_max": 1.0}),
        (schedules.geometric_sigmas, {"num_scales": 3, "sigma_min": 0.0, "sigma_max": 1.0}),
        (schedules.geometric_sigmas, {"num_scales": 3, "sigma_min": 2.0, "sigma_max": 1.0}),
    ],
)
def test_tables_refuse_invalid_schedules(table, options):
    with pytest.raises(InputError):
        table(**options)


@pytest.mark.parametrize("count", [np.int64(4), np.array(4), jnp.int32(4)], ids=repr)
def test_an_integer_of_any_type_is_a_count(count):
    assert schedules.uniform_times(count).shape == (5,)


@pytest.mark.parametrize("count", [1.5, 3.0, "3", True, 0])
@pytest.mark.parametrize(
    "call",
    [
        schedules.uniform_times,
        schedules.quadratic_times,
        schedules.trailing_times,
        schedules.linear_betas,
        lambda n: schedules.log_snr_times(processes.VP(), n),
        lambda n: schedules.leading_times(5, chain_steps=n),
        lambda n: schedules.geometric_sigmas(n, sigma_min=0.1, sigma_max=1.0),
        lambda n: processes.LearnedVP.create(num_steps=n),
        lambda n: solvers.langevin(None, processes.VP(), num_steps=n),
    ],
    ids=["uniform", "quadratic", "trailing", "betas", "log SNR", "chain", "sigmas", "VDM", "MCMC"],
)
def test_invalid_counts_are_refused(call, count):
    """Floats are refused even if whole, since arithmetic does not keep them whole."""
    with pytest.raises(InputError, match=rf"got .*{count}"):
        call(count)


@pytest.mark.parametrize("number", [np.inf, np.nan, np.float32(np.inf)], ids=repr)
@pytest.mark.parametrize(
    "call",
    [
        lambda x: schedules.cosine_betas(5, s=x),
        lambda x: schedules.geometric_sigmas(5, sigma_min=0.1, sigma_max=x),
        lambda x: schedules.karras_times(processes.VP(), 5, t_min=0.1, rho=x),
        lambda x: schedules.logistic_times(processes.VP(), 5, t_min=0.1, rho=x),
        lambda x: processes.CosineVP(s=x),
        lambda x: processes.CosineVP(log_snr_min=x),
        lambda x: processes.DiscreteVE.from_sigmas([1.0, x]),
        lambda x: processes.LearnedVP.create(log_snr_max=x),
        lambda x: denoisers.denoiser(None, processes.VP(), kind="edm", data_std=x),
        lambda x: guidance.dynamic_threshold(None, processes.VP(), quantile=x),
        lambda x: guidance.dynamic_threshold(None, processes.VP(), bound=x),
        lambda x: solvers.langevin(None, processes.VP(), snr=x),
        lambda x: solvers.annealed_langevin(None, processes.VP(), step_size=x),
        lambda x: losses.times.log_normal(jax.random.key(0), 5, processes.VP(), mean=x),
        lambda x: losses.times.log_normal(jax.random.key(0), 5, processes.VP(), std=x),
        lambda x: losses.decoders.discretized_gaussian(np.eye(1), np.eye(1), 1.0, high=x),
    ],
    ids=["betas", "sigmas", "karras", "logistic", "offset", "log SNR", "chain", "VDM", "data",
         "quantile", "bound", "snr", "step size", "mean", "std", "levels"],
)  # fmt: skip
def test_numbers_that_are_not_finite_are_refused(call, number):
    with pytest.raises(InputError, match=r"got .*(inf|nan)"):
        call(number)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize(
    ("num_steps", "ends"),
    [(0, {}), (4, {"t_max": 1.5}), (4, {"t_min": -0.1}), (4, {"t_max": 0.1, "t_min": 0.1})],
    ids=str,
)
def test_grids_refuse_times_outside_the_unit_interval(grid, num_steps, ends):
    with pytest.raises(InputError):
        GRIDS[grid](PROCESSES["vp"].process, num_steps, **ends)


def test_logistic_times_refuse_a_rho_of_zero():
    with pytest.raises(InputError, match="rho > 0, got 0"):
        schedules.logistic_times(PROCESSES["vp"].process, 4, rho=0)


def test_logistic_times_refuse_a_rho_for_which_steps_coincide():
    with pytest.raises(InputError, match="increase t_min or decrease rho"):
        schedules.logistic_times(PROCESSES["vp"].process, 100, rho=20.0)
