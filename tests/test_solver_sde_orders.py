"""The order of every SDE solver, against exact distributions, without Monte Carlo noise.

With the exact model of Gaussian data a step is affine in x, so that its three coefficients can be
read off and determine the distribution of samples; for mixtures the density itself is propagated
through the steps by quadrature.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import one_of
from process_table import PROCESSES, SMOOTH, Affine, every_smooth, exact_moments
from published_onestep import at
from solver_samples import (
    MODELS,
    STOCHASTIC,
    even_times,
    in_double,
    mixture_at,
    mixture_model,
    normal_pdf,
    slope,
)
from solver_table import SOLVERS

from jaxdiff import oracles, processes, solvers


@functools.cache
def jitted_steps(solver, model):
    """One step over each of many pairs of times, all from the same state.

    Returns the drawn noise too: every solver draws once, with the given key.
    """

    def steps(process, key, state, earlier, made, t, s):
        built = SOLVERS[solver].make(MODELS[model](process), process)
        keys = jax.random.split(key, t.shape[0])

        def step(key, earlier, made, t, s):
            seen = state._replace(times=tuple(earlier), made=made) if earlier.size else state
            return built.step(key, seen, t, s)

        after = jax.vmap(step)(keys, earlier, made, t, s)
        return after, jax.vmap(lambda k: jax.random.normal(k, state.x.shape))(keys)

    return jax.jit(steps)


def pairs_of(counts, t_max, t_min, memory):
    """Steps (t, s) of uniform grids of n steps, for every n of ``counts``, in one row.

    With the ``memory`` times before each, newest first, and how many of them there are.
    """
    grids = [np.linspace(t_max, t_min, n + 1) for n in counts]
    back = 1 + np.arange(memory)
    earlier = np.concatenate(
        [g[np.maximum(np.arange(len(g) - 1)[:, None] - back, 0)] for g in grids]
    )
    made = np.concatenate([np.minimum(np.arange(n), memory) for n in counts])
    t, s = (np.concatenate([g[part] for g in grids]) for part in (slice(-1), slice(1, None)))
    return earlier, made, t, s


def read_affine(solver, process, earlier, made, t, s):
    """Fit every step to ten points: u_s = scale · u_t + shift + noise · z.

    u holds the sample and the estimates that the solver remembers; the fit must be exact.
    """
    row, rng = SOLVERS[solver], np.random.default_rng(0)
    u = rng.normal(size=(1 + row.memory, 10, 1))
    state = row.make(None, process).init(u[0], t[0])
    if row.memory:
        state = state._replace(values=tuple(u[1:]))
    steps = jitted_steps(solver, "gaussian_1d")
    after, z = steps(process, jax.random.key(1), state, earlier, made, t, s)
    ends = np.stack([after.x, *(after.values if row.memory else ())], axis=-1)[:, :, 0]
    found = []
    for end, noise in zip(ends, np.asarray(z), strict=True):
        design = np.column_stack([*u[..., 0], np.ones(10), noise])
        coefficients = np.linalg.lstsq(design, end)[0]
        np.testing.assert_allclose(design @ coefficients, end, rtol=1e-9, atol=1e-9)
        found.append(Affine(coefficients[:-2].T, coefficients[-2], coefficients[-1]))
    return found


def moments(steps, mean, variance, memory):
    """Mean, variance and third moment after affine steps from N(mean, variance), all Gaussian."""
    mean, cov = np.eye(1 + memory)[0] * mean, np.diag(np.eye(1 + memory)[0] * variance)
    for scale, shift, noise in steps:
        mean, cov = scale @ mean + shift, scale @ cov @ scale.T + np.outer(noise, noise)
    return third_moment(mean[0], cov[0, 0])


def third_moment(mean, variance):
    return mean, variance, mean**3 + 3 * mean * variance


@pytest.mark.usefixtures("x64")
@every_smooth
@pytest.mark.parametrize("solver", [name for name in STOCHASTIC if SOLVERS[name].churn > 0])
def test_sde_solver_has_weak_order_one_on_gaussian_data(solver, process):
    """From a distribution other than the marginal, to test forgetting of the start too."""
    row, t_max, t_min = PROCESSES[process], 0.5, 0.2
    memory = SOLVERS[solver].memory
    alpha, sigma, _, _ = row.scales(t_max)
    start = alpha * 0.7 + 0.5 * sigma, 0.25 * sigma**2
    churn = SOLVERS[solver].churn
    exact = third_moment(*exact_moments(row.scales, t_max, t_min, 0.7, 0.5, *start, churn=churn))

    counts = np.array([32, 64, 128])
    read = read_affine(solver, one_of(process, SMOOTH), *pairs_of(counts, t_max, t_min, memory))
    runs = [read[end - n : end] for n, end in zip(counts, np.cumsum(counts), strict=True)]
    errors = np.abs(np.subtract([moments(steps, *start, memory) for steps in runs], exact))
    if process in SOLVERS[solver].exact_mean:
        # Gaussian regression is linear, and x̂_0 a martingale of the reverse SDE: exact.
        assert np.all(errors[:, 0] < 1e-10)
        errors = errors[:, 1:]
    for error in errors.T:
        if memory:  # usually better than their order, by an amount that depends on the interval
            assert slope(counts, error) > 1.4
        else:
            assert slope(counts, error) == pytest.approx(1, abs=0.15)


@jax.jit
def churning_steps(process, x, churn, t, s):
    model = oracles.gaussian(process, jnp.array([0.7]), jnp.array([[0.5]]))
    made = solvers.stochastic_heun(model, process, churn=churn)
    return jax.vmap(lambda t, s: made.step(jax.random.key(0), made.init(x, t), t, s).x)(t, s)


@pytest.mark.usefixtures("x64")
@every_smooth
def test_churn_is_the_family_between_ode_and_sde(process):
    """γ = η²h on steps of h in log σ/α: as much noise as the family has at η, to first order.

    The SDE of amplitude η adds η²g² dt = 2η²σ̄²h over a step, in x/α, and (1 + γ)² − 1 ≈ 2γ.
    Heun's own error is of a higher order.
    """
    row, eta = PROCESSES[process], 0.8
    t_max, t_min = 0.5, 0.2
    alpha, sigma, _, _ = row.scales(t_max)
    start = alpha * 0.7 + 0.5 * sigma, 0.25 * sigma**2
    exact = third_moment(*exact_moments(row.scales, t_max, t_min, 0.7, 0.5, *start, churn=eta))
    ends = [at(row.scales, t).lam for t in (t_max, t_min)]

    shared, counts, errors = one_of(process, SMOOTH), np.array([64, 128, 256]), []
    z = np.asarray(jax.random.normal(jax.random.key(0), (8, 1)))
    for n in counts:
        times = even_times(in_double(process), row.scales, n, t_max=t_max, t_min=t_min)
        x = np.random.default_rng(0).normal(size=(8, 1))
        churn = eta**2 * (ends[1] - ends[0]) / n
        pairs = np.resize(times[:-1], counts[-1]), np.resize(times[1:], counts[-1])
        y = np.asarray(churning_steps(shared, x, churn, *pairs))[:n]
        design = np.column_stack([x, np.ones(8), z])
        read = [np.linalg.lstsq(design, step[:, 0])[0] for step in y]
        affine = [Affine(np.array([[a]]), np.array([b]), np.array([c])) for a, b, c in read]
        errors.append(np.abs(np.subtract(moments(affine, *start, memory=0), exact)))
    away = np.hypot(*np.transpose(errors)[:2])  # of mean and variance, whose leading terms cancel
    assert slope(counts, away) == pytest.approx(1, abs=0.25)


@jax.jit
def end(process, x, times, increments, num_steps):
    """The sample of Euler–Maruyama in ``num_steps`` steps, with these increments as its noise."""
    drift_only = solvers.euler_maruyama(mixture_model(process), process)
    key = jax.random.key(0)
    drawn = jax.random.normal(key, x.shape)

    def step(index, x):
        t, s = times[index], times[index + 1]
        _, g2 = processes.drift_diffusion(process, t)
        x_next = drift_only.step(key, drift_only.init(x, t), t, s).x
        return x_next + jnp.sqrt(g2) * (increments[index] - jnp.sqrt(t - s) * drawn)

    return jax.lax.fori_loop(0, num_steps, step, x)


@pytest.mark.usefixtures("x64")
@every_smooth
def test_euler_maruyama_has_strong_order_one_on_shared_noise(process):
    """The noise is additive, so that the method's general order ½ is 1 here.

    Coarser runs use sums of the increments of the finest one, which stands for the exact path.
    """
    row, t_max, t_min = PROCESSES[process], 0.5, 0.2
    finest, counts, paths = 4096, np.array([32, 64, 128]), 64
    rng = np.random.default_rng(0)
    alpha, sigma, _, _ = row.scales(t_max)
    x_init = alpha * 0.7 + sigma * rng.normal(size=(paths, 1))
    brownian = rng.normal(size=(finest, paths, 1)) * np.sqrt((t_max - t_min) / finest)

    def run_of(n):
        increments = np.zeros_like(brownian)
        increments[:n] = brownian.reshape(n, finest // n, paths, 1).sum(1)
        times = np.pad(np.linspace(t_max, t_min, n + 1), (0, finest - n))
        return np.asarray(end(one_of(process, SMOOTH), x_init, times, increments, np.int32(n)))

    exact = run_of(finest)
    errors = [np.mean(np.abs(run_of(n) - exact)) for n in counts]
    assert slope(counts, errors) == pytest.approx(1, abs=0.15)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", ["vp", "ve"])
@pytest.mark.parametrize("solver", ["ancestral", "euler_maruyama", "sde_dpmpp_1"])
def test_sde_solver_has_weak_order_one_on_a_mixture(solver, process):
    """The density is propagated through x_s = μ(x_t) + c z by the trapezoidal rule, to rounding."""
    row = PROCESSES[process]
    t_max, t_min = {"vp": (0.5, 0.2), "ve": (0.7, 0.55)}[process]
    weights, means, stds = mixture_at(row.scales, t_max)
    reach = 6.5 * np.max(stds) + 1
    x = np.linspace(-reach, reach, 401)[:, None]
    width = x[1, 0] - x[0, 0]
    start = (normal_pdf((x - means) / stds) / stds) @ weights * width

    weights, means, stds = mixture_at(row.scales, t_min)
    third = means**3 + 3 * means * stds**2
    exact = np.array([weights @ means, weights @ (means**2 + stds**2), weights @ third])
    counts = np.array([24, 48, 96])
    pairs, ends = pairs_of(counts, t_max, t_min, memory=0), np.cumsum(counts)[:-1]
    steps = jitted_steps(solver, "mixture")
    shared, state = one_of(process, SMOOTH), SOLVERS[solver].make(None, row.process).init(x, t_max)
    y, z = steps(shared, jax.random.key(2), state, *pairs)
    y_other, z_other = steps(shared, jax.random.key(3), state, *pairs)
    y, z, y_other, z_other = map(np.asarray, (y.x, z, y_other.x, z_other))
    noise = np.median((y - y_other) / (z - z_other), axis=1, keepdims=True)
    np.testing.assert_allclose(y - noise * z, y_other - noise * z_other, atol=1e-9)
    assert np.all(noise > 1.2 * width)  # or the trapezoidal rule would not be exact
    errors = []
    for drifts, noises in zip(np.split(y - noise * z, ends), np.split(noise, ends), strict=True):
        density = start
        for drift, c in zip(drifts, noises[:, 0, 0], strict=True):
            density = normal_pdf((x - drift.T) / c) @ density * (width / c)
        assert np.sum(density) == pytest.approx(1, abs=1e-8)
        errors.append(np.abs([density @ x[:, 0] ** power for power in (1, 2, 3)] - exact))
    for moment_errors in np.transpose(errors):
        assert slope(counts, moment_errors) == pytest.approx(1, abs=0.15)
