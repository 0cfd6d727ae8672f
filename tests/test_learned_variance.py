"""Ancestral sampling with a learned variance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import one_of
from process_table import SMOOTH, exact_scales

from jaxdiff import oracles, processes, solvers
from jaxdiff.predictions import DenoisedWithVariance
from jaxdiff.typing import InputError

T, S, N = 0.6, 0.35, 40_000


@functools.partial(jax.jit, static_argnames=("variance", "learned"))
def step(process, fraction, s, *, variance="own", learned=True):
    exact = oracles.gaussian(process, jnp.zeros(2), jnp.eye(2))

    def model(x, t):
        return DenoisedWithVariance(*exact(x, t), jnp.broadcast_to(fraction, x.shape))

    solver = solvers.ancestral(model if learned else exact, process, variance=variance)
    x, t = jnp.ones((N, 2)), jnp.asarray(T)
    return solver.step(jax.random.key(0), solver.init(x, t), t, s).x


def spread(*args, **options):
    return np.std(np.asarray(step(*args, **options), np.float64), axis=0)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_models_own_fraction_interpolates_log_variances(name):
    """Nichol & Dhariwal 2021, eq. 15, each component by its own fraction."""
    (a_t, a_s), (s_t, s_s) = exact_scales(name, np.array([T, S]))
    large = s_t**2 - (a_t / a_s) ** 2 * s_s**2
    small = large * s_s**2 / s_t**2
    fraction = np.float32([0.25, 0.8])
    expected = np.exp(0.5 * (fraction * np.log(large) + (1 - fraction) * np.log(small)))
    found = spread(one_of(name), fraction, S)
    error = expected / np.sqrt(2 * N)  # standard error of a standard deviation
    assert np.all(np.abs(found - expected) < 5 * error)
    rtol = 5 / np.sqrt(2 * N)
    without = spread(one_of(name), fraction, S, learned=False)
    np.testing.assert_allclose(without, np.sqrt([small] * 2), rtol=rtol)
    requested = spread(one_of(name), fraction, S, variance="transition")
    np.testing.assert_allclose(requested, np.sqrt([large] * 2), rtol=rtol)


@pytest.mark.parametrize("variance", ["own", "posterior", "transition"])
def test_the_last_step_adds_no_noise(variance):
    assert np.all(spread(one_of("vp"), np.float32([0.7, 0.7]), 0.0, variance=variance) < 1e-6)


def test_an_unknown_variance_is_refused():
    with pytest.raises(
        InputError, match="variance must be one of own, posterior, transition, got 'b'"
    ):
        solvers.ancestral(None, processes.VP(), variance="b")
