"""The probability-flow ODE in its angle, and its adaptive solution: against the exact flow map."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solver_table import PROCESSES, vp_scales
from solver_walks import FLOWS, MODELS, gaussian_flow, slope
from tables import as_float64, assert_finite

import jaxdiff
from experiments import cli
from jaxdiff import flow, oracles
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP
from jaxdiff.solvers.adaptive import adaptive
from jaxdiff.typing import InputError

DIM = {"gaussian": 2, "mixture": 1}


@functools.cache
def jitted_solver(model, method="tsit5"):
    """``(process, x, t, s, tolerance) -> x`` in one adaptive step of the driver."""

    def run(process, x, t, s, tolerance):
        solver = adaptive(
            MODELS[model](process), process, rtol=tolerance, atol=tolerance, method=method
        )
        return jaxdiff.sample(jax.random.key(0), solver, x, jnp.stack([t, s]))

    return jax.jit(run)


def solve(model, process, x, t, s, *, tolerance=1e-5, method="tsit5"):
    dtype = jnp.result_type(float)
    arguments = [jnp.asarray(value, dtype) for value in (x, t, s, tolerance)]
    return np.asarray(jitted_solver(model, method)(process, *arguments), np.float64)


def unit_scale(scales, t):
    return np.hypot(scales(t).alpha, scales(t).sigma)


def spread(scales, t, model, n=64):
    return np.random.default_rng(0).uniform(-2, 2, size=(n, DIM[model])) * unit_scale(scales, t)


# Against the exact flow


@pytest.mark.parametrize(("t", "s"), [(1.0, 1e-5), (1e-5, 1.0), (1.0, 0.0), (0.3, 0.6)])
@pytest.mark.parametrize(
    ("process", "model"),
    [(process, "mixture") for process in PROCESSES] + [("vp", "gaussian"), ("ve", "gaussian")],
)
def test_solution_is_the_exact_flow_to_about_the_tolerance(process, model, t, s):
    """In units of the ODE's variable, where both tolerances are 1e-5 a step, over some steps."""
    row = PROCESSES[process]
    x = spread(row.scales, t, model).astype(np.float32)
    error = solve(model, row.process, x, t, s) - FLOWS[model](row.scales, x.astype(float), t, s)
    assert np.max(np.abs(error)) / unit_scale(row.scales, s) < 1e-4


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    ("process", "model", "method"),
    [("vp", "gaussian", "dopri5"), ("vp", "mixture", "tsit5"), ("ve", "mixture", "tsit5")],
)
def test_error_falls_with_the_tolerance(process, model, method):
    row, tolerances = PROCESSES[process], np.array([1e-4, 1e-6, 1e-8, 1e-10])
    x = spread(row.scales, 1.0, model)
    exact, errors = FLOWS[model](row.scales, x, 1.0, 0.01), []
    for tolerance in tolerances:
        got = solve(model, row.process, x, 1.0, 0.01, tolerance=tolerance, method=method)
        errors.append(np.max(np.abs(got - exact)))
    assert np.all(errors < 20 * tolerances)
    assert slope(1 / tolerances, errors) == pytest.approx(1, abs=0.3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("method", flow.METHODS)
def test_on_a_fixed_grid_both_methods_are_of_order_five(method):
    process, t, s = VP(), 0.9, 0.05
    field = flow.velocity(MODELS["gaussian"](process), process)
    step = jax.jit(lambda y, pair: flow.integrate(field, y, pair, adapts=False, method=method))
    x, counts, errors = spread(vp_scales, t, "gaussian"), np.array([8, 12, 18]), []
    exact = gaussian_flow(vp_scales, x, t, s)
    for n in counts:
        y = flow.to_unit(process, jnp.asarray(x), t)
        angles = np.linspace(*flow.angle(process, jnp.array([t, s])), n + 1)
        for pair in itertools.pairwise(angles):
            y = step(y, jnp.asarray(pair))
        errors.append(np.max(np.abs(y * unit_scale(vp_scales, s) - exact)))
    assert slope(counts, errors) == pytest.approx(5, abs=0.5)
    assert errors[-1] < 1e-6


@pytest.mark.usefixtures("x64")
def test_vp_and_ve_are_one_solution():
    """At equal angles every inner step is the same one, whatever process brings the angles."""
    times = np.array([0.85, 0.01])
    ratios = np.array([vp_scales(t).sigma / vp_scales(t).alpha for t in times])
    times_ve = np.log(ratios / 0.01) / np.log(50.0 / 0.01)
    x, first = spread(vp_scales, 0.85, "mixture"), vp_scales(0.85).alpha
    vp = solve("mixture", VP(), x, *times) / vp_scales(0.01).alpha
    ve = solve("mixture", VE(0.01, 50.0), x / first, *times_ve)
    np.testing.assert_allclose(vp, ve, rtol=1e-9)


def test_times_between_the_ends_only_interrupt_the_solution():
    process, x = VP(), spread(vp_scales, 1.0, "mixture").astype(np.float32)
    solver = adaptive(MODELS["mixture"](process), process)
    times = jnp.array([1.0, 0.6, 0.1, 0.01, 0.0])
    end, path = jaxdiff.trajectory(jax.random.key(0), solver, x, times)
    assert path.shape == (5, *x.shape)
    for t, seen in zip(times[1:].tolist(), path[1:], strict=True):
        exact = FLOWS["mixture"](vp_scales, x.astype(float), 1.0, t)
        np.testing.assert_allclose(seen, exact, atol=1e-4)
    np.testing.assert_array_equal(end, path[-1])


def test_images_keep_their_shape_and_dtype():
    process = VE(0.01, 50.0)
    exact = oracles.gaussian(process, jnp.zeros((4, 4, 2)), 0.25 * jnp.eye(32))
    x = jax.random.normal(jax.random.key(0), (3, 4, 4, 2)) * 50
    end = flow.follow(exact, process, x, 1.0, 0.0)
    expected = np.sqrt((0.25 + 1e-4) / (0.25 + 2500)) * np.asarray(x, float)
    np.testing.assert_allclose(end, expected, rtol=3e-4)
    short = jax.eval_shape(lambda x: flow.follow(exact, process, x, 1.0, 0.0), x.astype("bfloat16"))
    assert (short.shape, short.dtype) == (x.shape, jnp.bfloat16)


# Error control


def test_an_example_is_solved_as_well_among_easy_batch_mates():
    """Next to the saddle of a mixture, among 4095 rows so far away that nothing happens to them."""
    x = np.full((4096, 1), 30.0, np.float32)
    x[0] = -0.0146
    alone = solve("mixture", VP(), x[:1], 0.9, 0.01)
    together = solve("mixture", VP(), x, 0.9, 0.01)[:1]
    exact = FLOWS["mixture"](vp_scales, x[:1].astype(float), 0.9, 0.01)
    assert np.abs(alone - exact) < 1e-4
    assert np.abs(together - exact) < 1e-4


@pytest.mark.usefixtures("x64")
def test_rows_depend_on_their_mates_within_the_tolerance_and_not_at_all_under_vmap():
    process, x = VP(), spread(vp_scales, 1.0, "gaussian")[:16]
    model = MODELS["gaussian"](process)
    rows = jax.jit(jax.vmap(lambda row: flow.follow(model, process, row[None], 0.85, 0.01)[0]))
    together = solve("gaussian", process, x, 0.85, 0.01)
    alone = [solve("gaussian", process, x[i : i + 1], 0.85, 0.01)[0] for i in range(16)]
    assert 1e-8 < np.max(np.abs(together - alone)) < 1e-4
    np.testing.assert_allclose(rows(jnp.asarray(x)), alone, rtol=1e-9, atol=1e-9)


def test_evaluations_are_six_a_step_and_one_to_begin_with():
    """On a fixed grid; as many as documented, so none is wasted on an interval of its own."""
    counted, process = [], VP()

    def model(x, t):
        jax.debug.callback(lambda t: counted.append(float(t)), t)
        return MODELS["gaussian"](process)(x, t)

    angles = flow.angle(process, jnp.array([1.0, 0.7, 0.4, 0.1]))
    flow.integrate(flow.velocity(model, process), jnp.ones((3, 2)), angles, adapts=False)
    jax.effects_barrier()
    assert len(counted) == 6 * 3 + 1
    assert max(counted) == pytest.approx(1.0)
    assert min(counted) == pytest.approx(0.1, rel=1e-5)


# Time and angle


@pytest.mark.parametrize("process", PROCESSES)
def test_angle_has_its_formula_and_its_inverse(process):
    row, t = PROCESSES[process], np.array([1e-4, 0.0137, 0.5003, 0.93])
    angles = jax.jit(flow.angle)(row.process, t)
    scales = [row.scales(time) for time in t]
    expected = [np.arctan2(scale.sigma, scale.alpha) for scale in scales]
    np.testing.assert_allclose(angles, expected, rtol=2e-5)
    back = [
        row.scales(float(time)) for time in flow.time_at_angle(row.process, jnp.asarray(expected))
    ]
    np.testing.assert_allclose([np.arctan2(b.sigma, b.alpha) for b in back], expected, rtol=2e-5)
    ends = flow.time_at_angle(row.process, jnp.array([0.0, 0.5 * np.pi, np.pi / 2 + 1e-7]))
    np.testing.assert_allclose(ends, [0.0, 1.0, 1.0], atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_gradients_are_those_of_the_solution():
    """In the start, and in the process: the two ends, the model's α and σ, and t at each angle."""

    @jax.jit
    def end(process, x, s):
        exact = MODELS["gaussian"](process)

        def model(x, t):  # depends on time itself, so the time at each angle counts
            views = exact(x, t)
            return Denoised(views.x0 + jnp.sin(3 * t), views.eps)

        return jnp.sum(flow.follow(model, process, x, 0.9, s, rtol=1e-9, atol=1e-9) ** 2)

    x, h = jnp.asarray(spread(vp_scales, 1.0, "gaussian", 4)), 1e-5
    way = jnp.asarray(np.random.default_rng(0).normal(size=x.shape))
    moves = [(VP(1.0, 0.0), 0 * x), (VP(0.0, 1.0), 0 * x), (VP(0.0, 0.0), way)]
    at, gradient = (as_float64(VP()), x), jax.jit(jax.grad(end, argnums=(0, 1)))
    grads = gradient(*at, 0.05)
    for move in moves:
        up, down = (
            jax.tree.map(lambda leaf, step, sign=sign: leaf + sign * h * step, at, move)
            for sign in (1, -1)
        )
        slopes = jax.tree.map(lambda grad, step: jnp.sum(grad * step), grads, move)
        slope = float(end(*up, 0.05) - end(*down, 0.05)) / (2 * h)
        assert float(sum(jax.tree.leaves(slopes))) == pytest.approx(slope, rel=1e-5)
        assert abs(slope) > 1e-3
    assert_finite(gradient(*at, 0.0))  # where σ has no slope


# Ends of time, compilation, errors


def test_nothing_is_nan_where_sigma_is_1e_15():
    for process in (VP(), VE(0.01, 50.0)):
        x = process.sigma(1.0) * jnp.array([[0.0, 0.0], [4.0, -4.0], [-1e-3, 1.0]])
        for t, s in ((1.0, 0.0), (0.0, 1.0), (1.0, 0.999999), (1e-5, 0.0)):
            assert np.all(np.isfinite(solve("gaussian", process, x, t, s)))


def test_other_numbers_are_never_another_trace():
    traces = []

    @jax.jit
    def run(process, x, times, rtol):
        traces.append(1)
        solver = adaptive(MODELS["gaussian"](process), process, rtol=rtol)
        return jaxdiff.sample(jax.random.key(0), solver, x, times)

    down = run(VP(), jnp.ones((4, 2)), jnp.array([1.0, 0.1]), 1e-5)
    up = run(VP(0.2, 18.0), down, jnp.array([0.1, 1.0]), 1e-4)
    assert len(traces) == 1
    assert np.all(np.isfinite(up))


def test_a_solver_that_does_not_arrive_says_so():
    process, x = VP(), jnp.ones((3, 2))
    wrong = oracles.gaussian(process, jnp.zeros(2), jnp.full((2, 2), jnp.nan))
    right = oracles.gaussian(process, jnp.zeros(2), 0.01 * jnp.eye(2))
    for model, options, says in (
        (right, {"max_steps": 3}, "did not arrive within max_steps=3"),
        (wrong, {}, "model whose output is finite"),
    ):
        run = functools.partial(flow.follow, model, process, t=1.0, s=0.01, **options)
        with pytest.raises(InputError, match=says):
            run(x)
    with pytest.raises(RuntimeError, match=says):  # what JAX makes of the last
        jax.block_until_ready(jax.jit(lambda x: run(x))(x))


def test_a_method_that_does_not_exist_is_refused():
    with pytest.raises(InputError, match="tsit5, dopri5, got 'euler'"):
        adaptive(MODELS["gaussian"](VP()), VP(), method="euler")
    with pytest.raises(InputError, match="got 'rk'"):
        flow.follow(MODELS["gaussian"](VP()), VP(), jnp.ones((1, 2)), 1.0, 0.5, method="rk")


@pytest.mark.parametrize(
    ("ends", "options", "says"),
    [
        ((1.0, -0.5), {}, r"times in \[0, 1\], got -0.5"),
        ((2.0, 0.5), {}, r"times in \[0, 1\], got 2.0"),
        ((1.0, 0.5), {"rtol": -1.0}, "rtol and atol are at least 0"),
        ((1.0, 0.5), {"rtol": 0.0, "atol": 0.0}, "not both 0, got 0.0 and 0.0"),
        ((1.0, 0.5), {"max_steps": 0}, "max_steps is at least 1, got 0"),
    ],
)
def test_a_walk_that_means_nothing_is_refused(ends, options, says):
    with pytest.raises(InputError, match=says):
        flow.follow(MODELS["gaussian"](VP()), VP(), jnp.ones((1, 2)), *ends, **options)


def test_integers_are_refused():
    with pytest.raises(InputError, match="x is an array of floats, got int32"):
        flow.follow(MODELS["gaussian"](VP()), VP(), jnp.ones((1, 2), int), 0.0, 1.0)


def test_what_compiled_code_cannot_solve_is_one_sentence_of_a_command(capsys):
    run = jax.jit(lambda x: flow.follow(MODELS["gaussian"](VP()), VP(), x, 1.0, 0.01, max_steps=2))
    with pytest.raises(SystemExit) as left:
        cli._guarded(lambda: jax.block_until_ready(run(jnp.ones((1, 2)))), ["command"])
    assert left.value.code == cli.USAGE_ERROR
    assert "error: the adaptive solver did not arrive within max_steps=2" in capsys.readouterr().err
