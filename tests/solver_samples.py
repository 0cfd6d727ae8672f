"""Samples of solvers with exact models, and the exact flows that they are compared with."""

import functools
from collections import Counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import published_multistep  # noqa: F401 (it registers all solvers in the table)
from one_program import OneOf, one_of
from process_table import PROCESSES, SMOOTH, as_float64, exact_moments
from scipy import stats
from solver_table import SOLVERS

import jaxdiff
from jaxdiff import oracles, schedules
from jaxdiff.processes import Process
from jaxdiff.solvers import Solver

DETERMINISTIC = [name for name, row in SOLVERS.items() if row.deterministic]
STOCHASTIC = [name for name, row in SOLVERS.items() if not row.deterministic]

MEAN = np.array([1.0, -0.5])
VARIANCES = np.array([0.8, 0.3])
AXES = np.array([[0.8, -0.6], [0.6, 0.8]])  # a rotation; its columns are the eigenvectors
COV = AXES * VARIANCES @ AXES.T
MEAN_ALONG = MEAN @ AXES

MIXTURE = (np.array([0.3, 0.7]), np.array([[-1.0], [0.8]]), np.array([0.3, 0.5]))


def constant(values):
    """In the current precision: JAX caches the one in which a numpy array was first traced."""
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
"""How often sampling with (solver, model) was traced."""


class Counted(NamedTuple):
    """The state of a solver, and the number of steps taken."""

    state: Any
    steps: Any

    @property
    def x(self):
        return self.state.x


def ends_early(solver, num_steps, starts):
    """The solver stopped after ``num_steps`` steps, so that all lengths share one executable.

    A multistep method attains its order only from exact starting values: the sample after each of
    its first steps is replaced by one of ``starts``, unless that is NaN.
    """

    def step(key, counted, t, s):
        def advance(state):
            state = solver.step(key, state, t, s)
            for index, start in enumerate(starts):
                given = (counted.steps == index) & ~jnp.isnan(start)
                state = state._replace(x=jnp.where(given, start, state.x))
            return state

        state = jax.lax.cond(counted.steps < num_steps, advance, lambda state: state, counted.state)
        return Counted(state, counted.steps + 1)

    return Solver(lambda x, t: Counted(solver.init(x, t), jnp.int32(0)), step)


@functools.cache
def jitted_sample(solver, model="gaussian"):
    """``(process, key, x, times, num_steps, starts) -> x`` by the driver, of any length."""

    def run(process, key, x, times, num_steps, starts):
        TRACES[solver, model] += 1
        made = SOLVERS[solver].make(MODELS[model](process), process)
        return jaxdiff.sample(key, ends_early(made, num_steps, starts), x, times)

    return jax.jit(run)


def endpoint(solver, process, x, times, *, model="gaussian", key=None, exact_start=None):
    """The result of ``jaxdiff.sample``, with all numbers of steps in one executable.

    ``exact_start(s)`` gives the exact sample at s, for as many first steps as the solver remembers.
    """
    dtype = jnp.result_type(float)
    x, times = np.asarray(x, dtype), np.asarray(times, dtype)
    starts = np.full((SOLVERS[solver].memory, *x.shape), np.nan, dtype)
    if exact_start:
        for start, s in zip(starts, times[1:], strict=False):
            start[:] = exact_start(s)
    num_steps, longest = len(times) - 1, LONGEST[dtype]
    return np.asarray(
        jitted_sample(solver, model)(
            process,
            jax.random.key(0) if key is None else key,
            x,
            np.pad(times, (0, longest - num_steps), mode="edge"),
            np.int32(num_steps),
            starts,
        )
    )


LONGEST = {np.dtype("float32"): 64, np.dtype("float64"): 256}


def draws(key, num, shape):
    """The normal noise that a solver draws in its first steps, in float64 numpy."""
    return _draws(jax.random.key_data(key).tobytes(), shape, jnp.result_type(float))[:num]


@functools.cache
def _draws(data, shape, dtype):
    keys = jax.random.split(
        jax.random.wrap_key_data(np.frombuffer(data, np.uint32)), LONGEST[dtype]
    )
    return np.asarray(jax.vmap(lambda key: jax.random.normal(key, shape))(keys), np.float64)


class InUnitsOfSignal(Process):
    """Any process in terms of x/α: α = 1, and noise σ/α."""

    inner: Process

    def log_alpha(self, t):
        return jnp.zeros_like(self.inner.log_alpha(t))

    def variance(self, t):
        return jnp.exp(-self.inner.log_snr(t))


IN_SIGNAL = "subvp in units of signal"
IN_DOUBLE = (*SMOOTH, *(name for name, row in PROCESSES.items() if row.steep), IN_SIGNAL)


def in_double(name, model="gaussian"):
    """One of the processes for sampling in float64, all in one executable."""
    if model == "mixture":
        return one_of(name, SMOOTH)
    return OneOf(np.int32(IN_DOUBLE.index(name)), _rows_in_double())


@functools.cache
def _rows_in_double():
    rows = [PROCESSES[name].process for name in IN_DOUBLE[:-1]]
    return tuple(map(as_float64, [*rows, InUnitsOfSignal(inner=PROCESSES["subvp"].process)]))


_times_at = jax.jit(schedules.time_at_log_snr)


def times_at(process, log_snr):
    """``schedules.time_at_log_snr`` at a vector of values, in one executable."""
    longest, dtype = max(LONGEST.values()) + 1, jnp.result_type(float)
    padded = np.pad(log_snr, (0, longest - len(log_snr)), mode="edge")
    return np.array(_times_at(process, padded.astype(dtype)))[: len(log_snr)]


def even_times(process, scales, num_steps, *, t_max=1.0, t_min):
    """Times evenly spaced in log SNR, as in ``schedules.log_snr_times``, in one executable."""
    ends = [2 * np.log(scales(t).alpha / scales(t).sigma) for t in (t_max, t_min)]
    times = times_at(process, np.linspace(*ends, num_steps + 1))
    times[0], times[-1] = t_max, t_min
    return times


ROWS = 16


def padded(x):
    """A few rows padded to the one batch size that sampling in the plane is compiled for."""
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
    flowed = exact_moments(scales, t, s, MEAN_ALONG, VARIANCES, x @ AXES, 0.0, churn=0.0)[0]
    return flowed @ AXES.T


def mixture_at(scales, t):
    """Weights, means and standard deviations of the 1-D mixture at t."""
    weights, means, stds = MIXTURE
    alpha, sigma, _, _ = scales(t)
    return weights, alpha * means[:, 0], np.hypot(alpha * stds, sigma)


def normal_pdf(z):
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def mixture_flow(scales, x, t, s):
    """In one dimension the flow preserves order and mass, so it is F_s⁻¹ ∘ F_t."""

    def cdf(z, time):
        weights, means, stds = mixture_at(scales, time)
        return stats.norm.cdf((z[..., None] - means) / stds) @ weights

    target, reach = cdf(x, t), 20 * np.hypot(*scales(s)[:2])
    low, high = np.full_like(x, -reach), np.full_like(x, reach)
    for _ in range(80):
        middle = 0.5 * (low + high)
        below = cdf(middle, s) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


FLOWS = {"gaussian": gaussian_flow, "mixture": mixture_flow}
