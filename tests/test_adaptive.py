"""The probability-flow ODE in the angle and its adaptive solution, against the exact flow map."""

import dataclasses
import functools
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import one_of
from process_table import PROCESSES, SMOOTH, vp_scales
from quickly import first_is_quick
from solver_samples import FLOWS, MODELS, gaussian_flow, slope

import jaxdiff
from jaxdiff import flow, oracles
from jaxdiff.processes import VE, VP
from jaxdiff.solvers.adaptive import adaptive

pytestmark = pytest.mark.usefixtures("nan_where_short")

DIM = {"gaussian": 2, "mixture": 1}


TRACES = Counter()


@functools.cache
def jitted_solver(model, method="tsit5"):
    """``(process, x, t, s, tolerance) -> x`` in one adaptive step of the driver."""

    def run(process, x, t, s, tolerance):
        TRACES[model, method] += 1
        solver = adaptive(
            MODELS[model](process), process, rtol=tolerance, atol=tolerance, method=method
        )
        return jaxdiff.sample(jax.random.key(0), solver, x, jnp.stack([t, s]))

    return jax.jit(run)


def solve(model, process, x, t, s, *, tolerance=1e-5, method="tsit5"):
    dtype = jnp.result_type(float)
    arguments = [np.asarray(value, dtype) for value in (x, t, s, tolerance)]
    return np.asarray(jitted_solver(model, method)(process, *arguments), np.float64)


def unit_scale(scales, t):
    return np.hypot(scales(t).alpha, scales(t).sigma)


def spread(scales, t, model, n=64):
    return np.random.default_rng(0).uniform(-2, 2, size=(n, DIM[model])) * unit_scale(scales, t)


# Against the exact flow


@pytest.mark.parametrize(("t", "s"), [(1.0, 1e-5), (1e-5, 1.0), (1.0, 0.0), (0.3, 0.6)])
@pytest.mark.parametrize("process", PROCESSES)
def test_solution_matches_the_exact_flow_to_about_the_tolerance(process, t, s):
    """In units of the ODE's variable, with both tolerances at 1e-5 per step, over several steps."""
    row = PROCESSES[process]
    x = spread(row.scales, t, "mixture").astype(np.float32)
    exact = FLOWS["mixture"](row.scales, x.astype(float), t, s)
    error = solve("mixture", one_of(process), x, t, s) - exact
    assert np.max(np.abs(error)) / unit_scale(row.scales, s) < 1e-4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("process", "model", "method"),
    [
        ("vp", "gaussian", "dopri5"),
        pytest.param("vp", "mixture", "tsit5", marks=pytest.mark.slow),
        pytest.param("ve", "mixture", "tsit5", marks=pytest.mark.slow),
    ],
)
def test_error_falls_with_the_tolerance(process, model, method):
    row, tolerances = PROCESSES[process], np.array([1e-4, 1e-6, 1e-8, 1e-10])
    x = spread(row.scales, 1.0, model)
    exact, errors = FLOWS[model](row.scales, x, 1.0, 0.01), []
    for tolerance in tolerances:
        shared = one_of(process, SMOOTH)
        got = solve(model, shared, x, 1.0, 0.01, tolerance=tolerance, method=method)
        errors.append(np.max(np.abs(got - exact)))
    assert np.all(errors < 20 * tolerances)
    assert slope(1 / tolerances, errors) == pytest.approx(1, abs=0.3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", first_is_quick(flow.METHODS))
def test_both_methods_have_order_five_on_a_fixed_grid(method):
    process, t, s = VP(), 0.9, 0.05
    field = flow.velocity(MODELS["gaussian"](process), process)
    step = jax.jit(lambda y, pair: flow.integrate(field, y, pair, adaptive=False, method=method))
    x, counts, errors = spread(vp_scales, t, "gaussian"), np.array([8, 12, 18]), []
    exact = gaussian_flow(vp_scales, x, t, s)
    for n in counts:
        y = x / unit_scale(vp_scales, t)
        ends = vp_scales(np.array([t, s]))
        angles = np.linspace(*np.arctan2(ends.sigma, ends.alpha), n + 1)
        for pair in itertools.pairwise(angles):
            y = step(y, np.asarray(pair))
        errors.append(np.max(np.abs(y * unit_scale(vp_scales, s) - exact)))
    assert slope(counts, errors) == pytest.approx(5, abs=0.5)
    assert errors[-1] < 1e-6


@pytest.mark.usefixtures("x64")
def test_vp_and_ve_have_the_same_solution():
    """At equal angles all inner steps are the same, whichever process the angles come from."""
    times = np.array([0.85, 0.01])
    ratios = np.array([vp_scales(t).sigma / vp_scales(t).alpha for t in times])
    times_ve = np.log(ratios / 0.01) / np.log(50.0 / 0.01)
    x, first = spread(vp_scales, 0.85, "mixture"), vp_scales(0.85).alpha
    vp = solve("mixture", one_of("vp", SMOOTH), x, *times) / vp_scales(0.01).alpha
    ve = solve("mixture", one_of("ve", SMOOTH), x / first, *times_ve)
    np.testing.assert_allclose(vp, ve, rtol=1e-9)


@pytest.mark.slow
def test_intermediate_times_only_interrupt_the_solution():
    process, x = VP(), spread(vp_scales, 1.0, "mixture").astype(np.float32)
    times = np.float32([1.0, 0.6, 0.1, 0.01, 0.0])

    @jax.jit
    def run(process, x, times):
        solver = adaptive(MODELS["mixture"](process), process)
        return jaxdiff.trajectory(jax.random.key(0), solver, x, times)

    end, path = run(process, x, times)
    assert path.shape == (5, *x.shape)
    for t, seen in zip(times[1:].tolist(), path[1:], strict=True):
        exact = FLOWS["mixture"](vp_scales, x.astype(float), 1.0, t)
        np.testing.assert_allclose(seen, exact, atol=1e-4)
    np.testing.assert_array_equal(end, path[-1])


@pytest.mark.slow
def test_images_keep_their_shape_and_dtype():
    process = VE(0.01, 50.0)

    @jax.jit
    def run(x):
        exact = oracles.gaussian(process, jnp.zeros((4, 4, 2)), 0.25 * jnp.eye(32))
        return flow.solve_ode(exact, process, x, 1.0, 0.0)

    x = np.float32(50 * np.random.default_rng(0).normal(size=(3, 4, 4, 2)))
    expected = np.sqrt((0.25 + 1e-4) / (0.25 + 2500)) * x.astype(float)
    np.testing.assert_allclose(run(x), expected, rtol=3e-4)
    short = jax.eval_shape(run, jax.ShapeDtypeStruct(x.shape, "bfloat16"))
    assert (short.shape, short.dtype) == (x.shape, jnp.bfloat16)


# Error control


@pytest.mark.slow
def test_easy_batch_mates_do_not_degrade_an_example():
    """Next to the saddle of a mixture, among 4095 rows so far away that they hardly change."""
    x = np.full((4096, 1), 30.0, np.float32)
    x[0] = -0.0146
    alone = solve("mixture", one_of("vp"), np.repeat(x[:1], 64, axis=0), 0.9, 0.01)[:1]
    together = solve("mixture", VP(), x, 0.9, 0.01)[:1]
    exact = FLOWS["mixture"](vp_scales, x[:1].astype(float), 0.9, 0.01)
    assert np.abs(alone - exact) < 1e-4
    assert np.abs(together - exact) < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_rows_depend_on_batch_mates_within_tolerance_and_not_at_all_under_vmap():
    x, process = spread(vp_scales, 1.0, "gaussian")[:16], VP()
    model = MODELS["gaussian"](process)

    @jax.jit
    @jax.vmap
    def each(row):
        return flow.solve_ode(model, process, row[None], 0.85, 0.01, method="dopri5")[0]

    def at_once(x):  # in the compiled batch size of 64
        x = np.resize(x, (64, 2))
        return solve("gaussian", one_of("vp", SMOOTH), x, 0.85, 0.01, method="dopri5")[:16]

    # Among copies of itself an example takes its own step sizes.
    together, alone = at_once(x), [at_once(row)[0] for row in x]
    assert 1e-8 < np.max(np.abs(together - alone)) < 1e-4
    np.testing.assert_allclose(each(x), alone, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_evaluations_are_six_per_step_plus_one_at_the_start():
    """On a fixed grid; as documented, so that intervals cost no further evaluations."""
    counted, process = [], VP()

    def model(x, t):
        jax.debug.callback(lambda t: counted.append(float(t)), t)
        return MODELS["gaussian"](process)(x, t)

    @jax.jit
    def run(x, times):
        angles = flow.angle(process, times)
        return flow.integrate(flow.velocity(model, process), x, angles, adaptive=False)

    run(np.ones((3, 2), np.float32), np.float32([1.0, 0.7, 0.4, 0.1]))
    jax.effects_barrier()
    assert len(counted) == 6 * 3 + 1
    assert max(counted) == pytest.approx(1.0)
    assert min(counted) == pytest.approx(0.1, rel=1e-5)


# Ends of time, compilation


@pytest.mark.parametrize("process", ["vp", "ve"])
def test_nothing_is_nan_where_sigma_is_1e_15(process):
    sigma = PROCESSES[process].scales(1.0).sigma
    x = np.resize(sigma * np.array([[0.0, 0.0], [4.0, -4.0], [-1e-3, 1.0]]), (64, 1))
    for t, s in ((1.0, 0.0), (0.0, 1.0), (1.0, 0.999999), (1e-5, 0.0)):
        assert np.all(np.isfinite(solve("mixture", one_of(process), x, t, s)))


def test_changing_numbers_does_not_retrace():
    vp, x = one_of("vp"), spread(vp_scales, 1.0, "mixture")
    down = solve("mixture", vp, x, 1.0, 0.1)
    before = TRACES["mixture", "tsit5"]
    rows = jax.tree.map(lambda leaf: np.float32(1.05) * leaf, vp.rows)
    moved = dataclasses.replace(vp, rows=rows)
    up = solve("mixture", moved, down, 0.1, 1.0, tolerance=1e-4)
    assert TRACES["mixture", "tsit5"] == before
    assert np.all(np.isfinite(up))
    assert np.max(np.abs(up - x)) > 1e-3
