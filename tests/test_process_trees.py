"""Processes as pytrees: compiled once, mapped over, differentiated, and refused if invalid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import float64
from process_table import PROCESSES, as_float64, exact_scales
from process_tools import (
    H,
    every_process,
)

from jaxdiff.processes import VE, VP, DiscreteVE, DiscreteVP, SubVP
from jaxdiff.typing import InputError


@every_process
def test_compiled_functions_cannot_confuse_processes(name):
    # jit caches compiled code by the structure of the arguments: two kinds of process with equal
    # structure could get each other's code.
    structure = jax.tree.structure(PROCESSES[name].process)
    for other in (row.process for row in PROCESSES.values()):
        if type(other) is not type(PROCESSES[name].process):
            assert structure != jax.tree.structure(other), f"{name} is confused with {type(other)}"


@every_process
def test_changing_a_parameter_does_not_recompile(name):
    traces = []

    @jax.jit
    def log_snr(process):
        traces.append(process)
        return process.log_snr(0.5)

    process = PROCESSES[name].process
    changed = jax.tree.map(lambda leaf: leaf * 0.9, process)
    assert log_snr(process) != log_snr(changed)
    assert len(traces) == 1


def test_parameters_can_be_mapped_over():
    beta_max = jnp.array([5.0, 10.0, 20.0])
    together = jax.vmap(lambda b: VP(beta_max=b).log_alpha(0.5))(beta_max)
    np.testing.assert_allclose(together, -0.0625 * (beta_max - 0.1) - 0.025, rtol=1e-6)


def test_gradient_of_log_snr_with_respect_to_beta_max_is_the_closed_form():
    # log SNR = log α² − log(1 − α²), hence d log SNR = d log α² / σ², and d log α²/dβ_max = −½t².
    gradient = jax.jit(jax.grad(lambda b: VP(beta_max=b).log_snr(0.3)))(20.0)
    np.testing.assert_allclose(gradient, -0.5 * 0.3**2 / exact_scales("vp", 0.3)[1] ** 2, rtol=1e-5)


@every_process
def test_gradient_with_respect_to_the_parameters_is_a_finite_difference(name):
    with float64():
        process = as_float64(PROCESSES[name].process)

        @jax.jit
        def scaled(factor):
            changed = jax.tree.map(lambda leaf: leaf * factor, process)
            return changed.log_snr(0.3711) + changed.log_alpha(0.6213)

        difference = (scaled(1 + H) - scaled(1 - H)) / (2 * H)
        gradient = jax.jit(jax.grad(scaled))(1.0)
        np.testing.assert_allclose(gradient, difference, rtol=1e-6)


@pytest.mark.parametrize(
    ("build", "table"),
    [
        (DiscreteVP.from_betas, [1.0, 0.1]),
        (DiscreteVP.from_betas, [0.1, 1.1]),
        (DiscreteVP.from_betas, [0.0, 0.1]),
        (DiscreteVP.from_betas, [0.1, np.nan]),
        (DiscreteVP.from_betas, []),
        (DiscreteVP.from_betas, [[0.1, 0.2]]),
        (DiscreteVE.from_sigmas, [1.0, 1.0]),
        (DiscreteVE.from_sigmas, [2.0, 1.0]),
        (DiscreteVE.from_sigmas, [0.0, 1.0]),
        (DiscreteVE.from_sigmas, [1.0, np.nan]),
        (DiscreteVE.from_sigmas, 1.0),
    ],
)
def test_tables_that_are_not_a_chain_are_refused(build, table):
    with pytest.raises(InputError):
        build(np.float32(table))


@pytest.mark.parametrize(
    ("make", "fields"),
    [
        (VE, {"sigma_min": 50.0, "sigma_max": 0.01}),
        (VE, {"sigma_min": 0.0}),
        (VE, {"sigma_min": np.nan}),
        (VE, {"sigma_max": np.inf}),
        (VE, {"sigma_min": np.array([0.1, 60.0])}),
        (VP, {"beta_max": np.nan}),
        (VP, {"beta_min": 0.0, "beta_max": 0.0}),
        (SubVP, {"beta_min": -0.1}),
        (SubVP, {"beta_max": np.inf}),
    ],
)
def test_parameters_for_which_noise_does_not_increase_are_refused(make, fields):
    """If the numbers are concrete; a tree of gradients or shapes may hold anything."""
    with pytest.raises(InputError, match=r"got (sigma|beta)_min=.*, (sigma|beta)_max="):
        make(**fields)
    assert jax.tree.map(lambda _: -1.0, make()) is not None
