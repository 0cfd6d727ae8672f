"""Walks of solvers over exact models, and the exact flows that they are held against."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import published_multistep  # noqa: F401 (it enters its solvers in the table, and the others)
from process_table import exact_law
from scipy import stats
from solver_table import SOLVERS

from jaxdiff import oracles

DETERMINISTIC = [name for name, row in SOLVERS.items() if row.deterministic]
STOCHASTIC = [name for name, row in SOLVERS.items() if not row.deterministic]

MEAN = np.array([1.0, -0.5])
VARIANCES = np.array([0.8, 0.3])
AXES = np.array([[0.8, -0.6], [0.6, 0.8]])  # a rotation; its columns are the eigenvectors
COV = AXES * VARIANCES @ AXES.T
MEAN_ALONG = MEAN @ AXES

MIXTURE = (np.array([0.3, 0.7]), np.array([[-1.0], [0.8]]), np.array([0.3, 0.5]))


def constant(values):
    """In the precision of now: JAX remembers the one in which a numpy array was first traced."""
    return jnp.array(values.tolist())


def gaussian_model(process):
    return oracles.gaussian(process, constant(MEAN), constant(COV))


def mixture_model(process):
    return oracles.mixture(process, *map(constant, MIXTURE))


def gaussian_model_1d(process):
    return oracles.gaussian(process, jnp.array([0.7]), jnp.array([[0.5]]))


def gaussian_x0(scales):
    """The exact model of the Gaussian data in numpy, ``(x, t) -> x̂_0``."""

    def model(x, t):
        alpha, sigma, _, _ = scales(t)
        gain = alpha * VARIANCES / (alpha**2 * VARIANCES + sigma**2)
        return MEAN + ((x - alpha * MEAN) @ AXES * gain) @ AXES.T

    return model


MODELS = {
    "gaussian": gaussian_model,
    "gaussian_1d": gaussian_model_1d,
    "mixture": mixture_model,
}


TRACES = Counter()
"""How often the step of (solver, model) was traced."""


@functools.cache
def jitted_step(solver, model="gaussian"):
    """One step ``(process, key, state, t, s) -> state``, compiled once per process and shape."""

    def step(process, key, state, t, s):
        TRACES[solver, model] += 1
        made = SOLVERS[solver].make(MODELS[model](process), process)
        return made.step(key, state, t, s)

    return jax.jit(step)


def walk(solver, process, x, times, *, model="gaussian", key=None, exact_start=None):
    """The driver's loop in Python, so that walks of any length share one executable.

    That :func:`jaxdiff.sample` is this loop is a test of its own, in test_sampling.py. A multistep
    method has its order from exact starting values: ``exact_start(s)`` gives the sample at s, for
    as many first steps as it remembers.
    """
    row, dtype = SOLVERS[solver], jnp.result_type(float)
    step, x, times = jitted_step(solver, model), np.asarray(x, dtype), np.asarray(times, dtype)
    keys = split(jax.random.key(0) if key is None else key, len(times) - 1)
    state = jax.device_get(row.make(None, process).init(x, times[0]))
    for index, (k, t, s) in enumerate(zip(keys, times[:-1], times[1:], strict=True)):
        state = step(process, k, state, t, s)
        if exact_start and index < row.memory:
            state = state._replace(x=np.asarray(exact_start(s), dtype))
    return np.asarray(state.x)


def split(key, num):
    """``jax.random.split``, compiled for few lengths only, as raw keys that index for free."""
    size = next(size for size in (3, 64, 512) if num <= size)
    data = np.asarray(jax.random.key_data(jax.random.split(key, size)))
    return [jax.random.wrap_key_data(row) for row in data[:num]]


def draws(keys, shape):
    """The normal numbers that a solver draws with each of the keys, in float64 numpy."""
    return [np.asarray(jax.random.normal(key, shape), np.float64) for key in keys]


ROWS = 16


def padded(x):
    """A few rows in a batch of the one size that walks of the plane are compiled for."""
    return np.concatenate([x, np.zeros((ROWS - len(x), 2), np.asarray(x).dtype)])


def slope(counts, errors):
    """Order of convergence: minus the slope of log error over log n."""
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


def assert_within(got, expected, std_error, z=5.0, atol=0.0):
    away = np.abs(np.asarray(got, np.float64) - expected)
    assert np.all(away <= z * std_error + atol), (got, expected, away / std_error)


def gaussian_flow(scales, x, t, s):
    """(x − αm)/√(α²λ + σ²) is constant along each eigenvector of the covariance.

    With y = x − αm and v = α²λ + σ² the ODE is y' = (f + ½g²/v) y, and v' = 2fv + g² makes the
    bracket ½v'/v; so y ∝ √v.
    """
    flowed = exact_law(scales, t, s, MEAN_ALONG, VARIANCES, x @ AXES, 0.0, churn=0.0)[0]
    return flowed @ AXES.T


def mixture_law(scales, t):
    """Weights, means and standard deviations of the 1-D mixture at t."""
    weights, means, stds = MIXTURE
    alpha, sigma, _, _ = scales(t)
    return weights, alpha * means[:, 0], np.hypot(alpha * stds, sigma)


def normal_pdf(z):
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def mixture_flow(scales, x, t, s):
    """In one dimension the flow keeps order and mass, so it is F_s⁻¹ ∘ F_t."""

    def cdf(z, time):
        weights, means, stds = mixture_law(scales, time)
        return stats.norm.cdf((z[..., None] - means) / stds) @ weights

    target, reach = cdf(x, t), 20 * np.hypot(*scales(s)[:2])
    low, high = np.full_like(x, -reach), np.full_like(x, reach)
    for _ in range(80):
        middle = 0.5 * (low + high)
        below = cdf(middle, s) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


FLOWS = {"gaussian": gaussian_flow, "mixture": mixture_flow}
