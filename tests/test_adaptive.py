"""The probability-flow ODE in its angle, and its adaptive solution: against the exact flow map."""

import dataclasses
import functools
import itertools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_finite
from one_program import one_of
from process_table import PROCESSES, as_float64, vp_scales
from solver_walks import FLOWS, MODELS, gaussian_flow, slope

import jaxdiff
from experiments import cli
from jaxdiff import flow, oracles
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP
from jaxdiff.solvers.adaptive import adaptive
from jaxdiff.typing import InputError

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
@pytest.mark.parametrize(
    ("process", "model"),
    [(process, "mixture") for process in PROCESSES] + [("vp", "gaussian"), ("ve", "gaussian")],
)
def test_solution_is_the_exact_flow_to_about_the_tolerance(process, model, t, s):
    """In units of the ODE's variable, where both tolerances are 1e-5 a step, over some steps."""
    row = PROCESSES[process]
    x = spread(row.scales, t, model).astype(np.float32)
    error = solve(model, one_of(process), x, t, s) - FLOWS[model](row.scales, x.astype(float), t, s)
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
        y = x / unit_scale(vp_scales, t)
        ends = vp_scales(np.array([t, s]))
        angles = np.linspace(*np.arctan2(ends.sigma, ends.alpha), n + 1)
        for pair in itertools.pairwise(angles):
            y = step(y, np.asarray(pair))
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


def test_images_keep_their_shape_and_dtype():
    process = VE(0.01, 50.0)

    @jax.jit
    def run(x):
        exact = oracles.gaussian(process, jnp.zeros((4, 4, 2)), 0.25 * jnp.eye(32))
        return flow.follow(exact, process, x, 1.0, 0.0)

    x = np.float32(50 * np.random.default_rng(0).normal(size=(3, 4, 4, 2)))
    expected = np.sqrt((0.25 + 1e-4) / (0.25 + 2500)) * x.astype(float)
    np.testing.assert_allclose(run(x), expected, rtol=3e-4)
    short = jax.eval_shape(run, jax.ShapeDtypeStruct(x.shape, "bfloat16"))
    assert (short.shape, short.dtype) == (x.shape, jnp.bfloat16)


# Error control


def test_an_example_is_solved_as_well_among_easy_batch_mates():
    """Next to the saddle of a mixture, among 4095 rows so far away that nothing happens to them."""
    x = np.full((4096, 1), 30.0, np.float32)
    x[0] = -0.0146
    alone = solve("mixture", one_of("vp"), np.repeat(x[:1], 64, axis=0), 0.9, 0.01)[:1]
    together = solve("mixture", VP(), x, 0.9, 0.01)[:1]
    exact = FLOWS["mixture"](vp_scales, x[:1].astype(float), 0.9, 0.01)
    assert np.abs(alone - exact) < 1e-4
    assert np.abs(together - exact) < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_rows_depend_on_their_mates_within_the_tolerance_and_not_at_all_under_vmap():
    process, x = VP(), spread(vp_scales, 1.0, "gaussian")[:16]
    model = MODELS["gaussian"](process)
    rows = jax.jit(jax.vmap(lambda row: flow.follow(model, process, row[None], 0.85, 0.01)[0]))
    together = solve("gaussian", process, x, 0.85, 0.01)
    # Among copies of itself an example has the steps of its own.
    alone = [solve("gaussian", process, np.repeat(row[None], 16, 0), 0.85, 0.01)[0] for row in x]
    assert 1e-8 < np.max(np.abs(together - alone)) < 1e-4
    np.testing.assert_allclose(rows(x), alone, rtol=1e-9, atol=1e-9)


def test_evaluations_are_six_a_step_and_one_to_begin_with():
    """On a fixed grid; as many as documented, so none is wasted on an interval of its own."""
    counted, process = [], VP()

    def model(x, t):
        jax.debug.callback(lambda t: counted.append(float(t)), t)
        return MODELS["gaussian"](process)(x, t)

    @jax.jit
    def run(x, times):
        angles = flow.angle(process, times)
        return flow.integrate(flow.velocity(model, process), x, angles, adapts=False)

    run(np.ones((3, 2), np.float32), np.float32([1.0, 0.7, 0.4, 0.1]))
    jax.effects_barrier()
    assert len(counted) == 6 * 3 + 1
    assert max(counted) == pytest.approx(1.0)
    assert min(counted) == pytest.approx(0.1, rel=1e-5)


# Time and angle


@jax.jit
def there_and_back(process, times, angles):
    return flow.angle(process, times), flow.time_at_angle(process, angles)


@pytest.mark.parametrize("process", PROCESSES)
def test_angle_has_its_formula_and_its_inverse(process):
    scales, t = PROCESSES[process].scales, np.float32([1e-4, 0.0137, 0.5003, 0.93])
    expected = np.arctan2(scales(t).sigma, scales(t).alpha)
    beyond = [0.0, 0.5 * np.pi, np.pi / 2 + 1e-7]
    angles, times = there_and_back(one_of(process), t, np.float32([*expected, *beyond]))
    np.testing.assert_allclose(angles, expected, rtol=2e-5)
    back = scales(times[:4])
    np.testing.assert_allclose(np.arctan2(back.sigma, back.alpha), expected, rtol=2e-5)
    np.testing.assert_allclose(times[4:], [0.0, 1.0, 1.0], atol=1e-6)


@pytest.mark.usefixtures("x64")
def test_gradients_are_those_of_the_solution():
    """In the start, and in the process: the two ends, the model's α and σ, and t at each angle."""

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def end(process, x, s):
        exact = MODELS["gaussian"](process)

        def model(x, t):  # depends on time itself, so the time at each angle counts
            views = exact(x, t)
            return Denoised(views.x0 + jnp.sin(3 * t), views.eps)

        return jnp.sum(flow.follow(model, process, x, 0.9, s, rtol=1e-9, atol=1e-9) ** 2)

    x, h = jnp.asarray(spread(vp_scales, 1.0, "gaussian", 4)), 1e-5
    way = jnp.asarray(np.random.default_rng(0).normal(size=x.shape))
    moves = [(VP(1.0, 0.0), 0 * x), (VP(0.0, 1.0), 0 * x), (VP(0.0, 0.0), way)]
    at = as_float64(VP()), x
    _, grads = end(*at, 0.05)
    for move in moves:
        up, down = (
            jax.tree.map(lambda leaf, step, sign=sign: leaf + sign * h * step, at, move)
            for sign in (1, -1)
        )
        slopes = jax.tree.map(lambda grad, step: jnp.sum(grad * step), grads, move)
        slope = float(end(*up, 0.05)[0] - end(*down, 0.05)[0]) / (2 * h)
        assert float(sum(jax.tree.leaves(slopes))) == pytest.approx(slope, rel=1e-5)
        assert abs(slope) > 1e-3
    assert_finite(end(*at, 0.0))  # where σ has no slope


# Ends of time, compilation, errors


@pytest.mark.parametrize("process", ["vp", "ve"])
def test_nothing_is_nan_where_sigma_is_1e_15(process):
    sigma = PROCESSES[process].scales(1.0).sigma
    x = np.resize(sigma * np.array([[0.0, 0.0], [4.0, -4.0], [-1e-3, 1.0]]), (64, 2))
    for t, s in ((1.0, 0.0), (0.0, 1.0), (1.0, 0.999999), (1e-5, 0.0)):
        assert np.all(np.isfinite(solve("gaussian", one_of(process), x, t, s)))


def test_other_numbers_are_never_another_trace():
    vp, x = one_of("vp"), spread(vp_scales, 1.0, "gaussian")
    down = solve("gaussian", vp, x, 1.0, 0.1)
    before = TRACES["gaussian", "tsit5"]
    rows = jax.tree.map(lambda leaf: np.float32(1.05) * leaf, vp.rows)
    moved = dataclasses.replace(vp, rows=rows)
    up = solve("gaussian", moved, down, 0.1, 1.0, tolerance=1e-4)
    assert TRACES["gaussian", "tsit5"] == before
    assert np.all(np.isfinite(up))
    assert np.max(np.abs(up - x)) > 1e-3


def stuck(x, t):
    return Denoised(jnp.nan * x, x)


def test_a_solver_that_does_not_arrive_says_so():
    x = jnp.ones((3, 2))
    for model, options, says in (
        (MODELS["gaussian"](VP()), {"max_steps": 2}, "did not arrive within max_steps=2"),
        (stuck, {}, "model whose output is finite"),
    ):
        run = functools.partial(flow.follow, model, VP(), t=1.0, s=0.01, **options)
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
