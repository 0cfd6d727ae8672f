"""Models, random draws and chains for testing correctors."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from process_table import BETAS, PROCESSES

from jaxdiff.predictions import Denoised
from jaxdiff.solvers.langevin import annealed_langevin, langevin

DDPM, NCSN = PROCESSES["ddpm_linear_1000"].process, PROCESSES["ncsn_232"].process
BETA = np.append(np.nan, BETAS["ddpm_linear_1000"])  # counted from 1, as in the papers
BARS = np.append(1.0, np.cumprod(1 - BETA[1:]))
LADDER = np.append(0.0, 0.01 * 5000 ** (np.arange(232) / 231))

KEY = jax.random.key(3)
CORRECTORS = {
    "langevin": functools.partial(langevin, num_steps=2),
    "langevin_batch": functools.partial(langevin, num_steps=2, norms="batch"),
    "annealed": functools.partial(annealed_langevin, num_steps=2),
}


def eps_model(process, eps):
    """A model that predicts the same noise for any input."""
    return lambda x, t: Denoised((x - process.sigma(t) * eps) / process.alpha(t), eps)


def linear_model(process, gain):
    """ε̂ = gain · x: different at every Langevin step, and easy to reproduce in numpy."""

    def denoise_fn(x, t):
        return Denoised((x - process.sigma(t) * gain * x) / process.alpha(t), gain * x)

    return denoise_fn


def one(solver, key, x, t, s):
    """One step, from a fresh state, in float64 numpy."""
    state = solver.step(key, solver.init(x, t), jnp.asarray(t), jnp.asarray(s))
    assert state.x.dtype == x.dtype
    return np.asarray(state.x, np.float64)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def normals(key, shape, count):
    """The noise of ``count`` Langevin steps, each from its own key split off ``key``."""
    keys = jax.random.split(key, count)
    return [np.asarray(jax.random.normal(k, shape), np.float64) for k in keys]
