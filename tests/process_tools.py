"""Shared by the process tests: marks, and functions compiled once for each kind."""

import jax
import numpy as np
import pytest
from assertions import float64
from process_table import BETAS, CHAINS, PROCESSES, as_float64

from jaxdiff import processes

every_process = pytest.mark.parametrize("name", PROCESSES)
every_chain = pytest.mark.parametrize("name", CHAINS)
every_ddpm = pytest.mark.parametrize("name", BETAS)

# Farther from the nodes of every chain in the table than any finite-difference step.
INSIDE = np.array([0.1237, 0.3711, 0.6213, 0.8887])
H = 1e-5

# Compiled once for each kind of process and shape.
scales = jax.jit(lambda process, t: (process.alpha(t), process.sigma(t), process.log_snr(t)))
drift_diffusion = jax.jit(processes.drift_diffusion)
perturb = jax.jit(processes.perturb)
posterior = jax.jit(processes.posterior)
transition = jax.jit(processes.transition)


@jax.jit
def rates(process, t):
    f, g2 = processes.drift_diffusion(process, t)
    return process.log_alpha(t), process.variance(t), process.log_snr(t), f, g2


def values(name, t):
    """(log_alpha, variance, log_snr, f, g2) of a row, in float64 numpy."""
    with float64():
        return jax.device_get(rates(as_float64(PROCESSES[name].process), np.float64(t)))
