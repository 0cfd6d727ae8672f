"""Ancestral sampling with the variance that a model has learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solver_table import PROCESSES

from jaxdiff import oracles, processes, solvers
from jaxdiff.predictions import DenoisedWithVariance
from jaxdiff.typing import InputError

T, S, N = 0.6, 0.35, 40_000


def model_of(process, fraction):
    exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))
    if fraction is None:
        return exact
    return lambda x, t: DenoisedWithVariance(*exact(x, t), jnp.broadcast_to(fraction, x.shape))


def spread(process, fraction, *, s=S, **options):
    solver = solvers.ancestral(model_of(process, fraction), process, **options)
    x = jnp.ones((N, 2))
    step = jax.jit(lambda key: solver.step(key, solver.init(x, T), jnp.float32(T), s).x)
    return np.std(np.asarray(step(jax.random.key(0)), np.float64), axis=0)


@pytest.mark.parametrize("name", ["vp", "sub_vp", "ve"])
def test_the_models_own_fraction_lies_on_the_line_of_log_variances(name):
    """Nichol & Dhariwal 2021, eq. 15, each number by its own fraction."""
    process = PROCESSES[name].process
    (a_t, s_t), (a_s, s_s) = ((float(process.alpha(t)), float(process.sigma(t))) for t in (T, S))
    large = s_t**2 - (a_t / a_s) ** 2 * s_s**2
    small = large * s_s**2 / s_t**2
    fraction = np.array([0.25, 0.8])
    expected = np.exp(0.5 * (fraction * np.log(large) + (1 - fraction) * np.log(small)))
    found = spread(process, jnp.asarray(fraction, jnp.float32))
    error = expected / np.sqrt(2 * N)  # standard error of a standard deviation
    assert np.all(np.abs(found - expected) < 5 * error)
    np.testing.assert_allclose(spread(process, None), np.sqrt([small] * 2), rtol=5 / np.sqrt(2 * N))
    asked = spread(process, jnp.asarray(fraction, jnp.float32), variance="transition")
    np.testing.assert_allclose(asked, np.sqrt([large] * 2), rtol=5 / np.sqrt(2 * N))


@pytest.mark.parametrize("variance", ["own", "posterior", "transition"])
def test_the_last_step_adds_no_noise(variance):
    found = spread(processes.VP(), jnp.float32(0.7), s=jnp.float32(0.0), variance=variance)
    assert np.all(found < 1e-6)


def test_a_variance_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="variance is one of own, posterior, transition, got 'b'"):
        solvers.ancestral(model_of(processes.VP(), None), processes.VP(), variance="b")
