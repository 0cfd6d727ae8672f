"""The order of every solver, against exact flows and exact laws.

The orders are measured without Monte-Carlo noise. With the exact model of Gaussian data a step is
affine in x, so its three numbers can be read off and the law of a whole walk follows; for mixtures
the density itself is pushed through the steps by quadrature.
"""

import functools

import jax
import numpy as np
import pytest
from solver_table import (
    PROCESSES,
    SOLVERS,
    Affine,
    exact_law,
    law_after,
)
from solver_walks import (
    AXES,
    DETERMINISTIC,
    FLOWS,
    MEAN_ALONG,
    MODELS,
    SMOOTH,
    STOCHASTIC,
    VARIANCES,
    gaussian_flow,
    mixture_law,
    normal_pdf,
    slope,
    walk,
)

# Order of the ODE solvers: against the exact flow map


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("model", FLOWS)
@pytest.mark.parametrize("process", SMOOTH)
@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_ode_solver_converges_to_the_exact_flow_with_its_order(solver, process, model):
    row, scales = PROCESSES[process], PROCESSES[process].scales
    t_max, t_min = 0.9, 0.05
    alpha, sigma, _, _ = scales(t_max)
    unit = np.random.default_rng(0).uniform(-1.5, 1.5, size=(16, 2 if model == "gaussian" else 1))
    x = 0.3 * alpha + np.hypot(alpha, sigma) * unit
    exact = FLOWS[model](scales, x, t_max, t_min)

    counts = np.array([32, 64, 128, 256])
    errors = []
    for n in counts:
        times = np.linspace(t_max, t_min, n + 1)
        errors.append(np.max(np.abs(walk(solver, row.process, x, times, model=model) - exact)))
    order = SOLVERS[solver].order
    assert slope(counts, errors) == pytest.approx(order, abs=0.15 if order == 1 else 0.2)
    assert errors[-1] < 0.05


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", SMOOTH)
def test_ddim_loses_the_cosine_of_every_angle_it_turns(process):
    """Of the standard deviation √λ, ∏ cos Δφ is left, with φ = arctan(σ/(α√λ)).

    In x̄ = x/α, σ̄ = σ/α a step multiplies x̄ − m by (λ + σ̄_t σ̄_s)/(λ + σ̄_t²), which is
    cos(φ_t − φ_s) cos φ_t/cos φ_s, and the exact flow by cos φ_t/cos φ_s.
    """
    row = PROCESSES[process]
    times = np.linspace(0.9, 0.05, 8)
    scales = [row.scales(t) for t in times]
    angles = np.array([np.arctan(s.sigma / s.alpha / np.sqrt(VARIANCES)) for s in scales])
    left = np.prod(np.cos(np.diff(angles, axis=0)), axis=0)

    x = np.random.default_rng(0).normal(size=(16, 2))
    got = walk("ddim", row.process, x, times) @ AXES - scales[-1].alpha * MEAN_ALONG
    exact = gaussian_flow(row.scales, x, times[0], times[-1]) @ AXES
    expected = left * (exact - scales[-1].alpha * MEAN_ALONG)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


# Order of the SDE solvers: against the exact law, without Monte Carlo


@functools.cache
def jitted_steps(solver, model):
    """One step over each of many pairs of times, all from the same x: ``[pairs, batch, 1]``.

    Returns the drawn noise too: every solver draws once, with the key that it is given.
    """

    def steps(process, key, x, t, s):
        made = SOLVERS[solver].make(MODELS[model](process), process)
        keys = jax.random.split(key, t.shape[0])
        y = jax.vmap(lambda k, t, s: made.step(k, made.init(x, t), t, s).x)(keys, t, s)
        return y, jax.vmap(lambda k: jax.random.normal(k, x.shape))(keys)

    return jax.jit(steps)


def pairs_of(counts, t_max, t_min):
    """The pairs of times of uniform grids of n steps, for every n of ``counts``, in one row."""
    grids = [np.linspace(t_max, t_min, n + 1) for n in counts]
    ends = np.cumsum(counts)[:-1]
    return np.concatenate([g[:-1] for g in grids]), np.concatenate([g[1:] for g in grids]), ends


def read_affine(solver, process, t, s):
    """Read scale, shift and noise of every step off eight points; the fit must be exact."""
    x = np.linspace(-2.0, 2.0, 8)[:, None]
    y, z = map(np.asarray, jitted_steps(solver, "gaussian_1d")(process, jax.random.key(1), x, t, s))
    found = []
    for y_step, z_step in zip(y, z, strict=True):
        design = np.column_stack([x, np.ones(8), z_step])
        coefficients = np.linalg.lstsq(design, y_step[:, 0])[0]
        np.testing.assert_allclose(design @ coefficients, y_step[:, 0], rtol=1e-10, atol=1e-10)
        found.append(Affine(*coefficients))
    return found


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", SMOOTH)
@pytest.mark.parametrize("solver", STOCHASTIC)
def test_sde_solver_has_weak_order_one_on_gaussian_data(solver, process):
    """From a law that is not the marginal, so that forgetting the start is tested too."""
    row, t_max, t_min = PROCESSES[process], 0.5, 0.2
    alpha, sigma, _, _ = row.scales(t_max)
    start = alpha * 0.7 + 0.5 * sigma, 0.25 * sigma**2
    exact = exact_law(row.scales, t_max, t_min, 0.7, 0.5, *start, churn=SOLVERS[solver].churn)

    counts = np.array([32, 64, 128])
    t, s, ends = pairs_of(counts, t_max, t_min)
    walks = np.split(np.array(read_affine(solver, row.process, t, s)), ends)
    laws = [law_after([Affine(*step) for step in steps], *start) for steps in walks]
    errors = np.abs(np.subtract(laws, exact))
    mean_errors, variance_errors = np.transpose(errors)
    if solver in ("ancestral", "ddim_one"):
        # Gaussian regression is linear, and the posterior's mean is linear in x_0: no error at all.
        assert np.all(mean_errors < 1e-10)
    else:
        assert slope(counts, mean_errors) == pytest.approx(1, abs=0.15)
    assert slope(counts, variance_errors) == pytest.approx(1, abs=0.15)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", ["vp", "ve"])
@pytest.mark.parametrize("solver", ["ancestral", "euler_maruyama"])
def test_sde_solver_has_weak_order_one_on_a_mixture(solver, process):
    """The density is pushed through x_s = μ(x_t) + c z by the trapezoidal rule, to rounding."""
    row = PROCESSES[process]
    t_max, t_min = {"vp": (0.5, 0.2), "ve": (0.7, 0.55)}[process]
    weights, means, stds = mixture_law(row.scales, t_max)
    reach = 6.5 * np.max(stds) + 1
    x = np.linspace(-reach, reach, 401)[:, None]
    width = x[1, 0] - x[0, 0]
    start = (normal_pdf((x - means) / stds) / stds) @ weights * width

    weights, means, stds = mixture_law(row.scales, t_min)
    exact = np.array([weights @ means, weights @ (means**2 + stds**2)])
    counts = np.array([24, 48, 96])
    t, s, ends = pairs_of(counts, t_max, t_min)
    steps = jitted_steps(solver, "mixture")
    y, z = map(np.asarray, steps(row.process, jax.random.key(2), x, t, s))
    y_other, z_other = map(np.asarray, steps(row.process, jax.random.key(3), x, t, s))
    noise = np.median((y - y_other) / (z - z_other), axis=1, keepdims=True)
    np.testing.assert_allclose(y - noise * z, y_other - noise * z_other, atol=1e-9)
    assert np.all(noise > 1.2 * width)  # or the trapezoidal rule would not be exact
    errors = []
    for drifts, noises in zip(np.split(y - noise * z, ends), np.split(noise, ends), strict=True):
        density = start
        for drift, c in zip(drifts, noises[:, 0, 0], strict=True):
            density = normal_pdf((x - drift.T) / c) @ density * (width / c)
        assert np.sum(density) == pytest.approx(1, abs=1e-8)
        errors.append(np.abs([density @ x[:, 0], density @ x[:, 0] ** 2] - exact))
    for moment_errors in np.transpose(errors):
        assert slope(counts, moment_errors) == pytest.approx(1, abs=0.15)
