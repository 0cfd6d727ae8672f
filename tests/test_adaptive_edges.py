"""Edge cases of the adaptive solution: times at angles, gradients, and failures to solve."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import one_of
from process_table import PROCESSES, as_float64
from solver_samples import MODELS

from experiments.common import cli
from jaxdiff import flow
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VP
from jaxdiff.solvers.adaptive import adaptive
from jaxdiff.typing import InputError

# Time and angle


@jax.jit
def there_and_back(process, times, angles):
    return flow.angle(process, times), flow.time_at_angle(process, angles)


@pytest.mark.parametrize("process", PROCESSES)
def test_angle_matches_its_formula_and_time_at_angle_inverts_it(process):
    scales, t = PROCESSES[process].scales, np.float32([1e-4, 0.0137, 0.5003, 0.93])
    expected = np.arctan2(scales(t).sigma, scales(t).alpha)
    beyond = [0.0, 0.5 * np.pi, np.pi / 2 + 1e-7]
    angles, times = there_and_back(one_of(process), t, np.float32([*expected, *beyond]))
    np.testing.assert_allclose(angles, expected, rtol=2e-5)
    back = scales(times[:4])
    np.testing.assert_allclose(np.arctan2(back.sigma, back.alpha), expected, rtol=2e-5)
    np.testing.assert_allclose(times[4:], [0.0, 1.0, 1.0], atol=1e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradients_are_those_of_the_solution():
    """In x, and in the process through the two ends, the model's α and σ, and t at each angle."""

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def end(process, x, s):
        exact = MODELS["gaussian"](process)

        def model(x, t):  # depends on time itself, so that the time at each angle matters
            views = exact(x, t)
            return Denoised(views.x0 + jnp.sin(3 * t), views.eps)

        return jnp.sum(flow.solve_ode(model, process, x, 0.9, s, rtol=1e-9, atol=1e-9) ** 2)

    x, h = np.random.default_rng(0).uniform(-2, 2, size=(4, 2)), 1e-5
    way = np.random.default_rng(0).normal(size=x.shape)
    slopes = functools.partial(jax.tree.unflatten, jax.tree.structure(VP()))
    moves = [(slopes([1.0, 0.0]), 0 * x), (slopes([0.0, 1.0]), 0 * x), (slopes([0.0, 0.0]), way)]
    at = jax.device_get((as_float64(VP()), x))
    grads = jax.device_get(end(*at, 0.05)[1])
    for move in moves:
        up, down = (
            jax.tree.map(lambda leaf, step, sign=sign: leaf + sign * h * step, at, move)
            for sign in (1, -1)
        )
        slopes = jax.tree.map(lambda grad, step: np.sum(grad * step), grads, move)
        slope = float(end(*up, 0.05)[0] - end(*down, 0.05)[0]) / (2 * h)
        assert float(sum(jax.tree.leaves(slopes))) == pytest.approx(slope, rel=1e-5)
        assert abs(slope) > 1e-3
    chex.assert_tree_all_finite(end(*at, 0.0))  # where σ is not differentiable


# Errors


def stuck(x, t):
    return Denoised(jnp.nan * x, x)


@pytest.mark.slow
def test_a_solver_that_does_not_reach_the_end_raises():
    """Directly, and from compiled code, where JAX turns it into a RuntimeError."""
    x, model = np.ones((3, 2), np.float32), MODELS["gaussian"](VP())
    with pytest.raises(InputError, match="did not reach the end within max_steps=2"):
        flow.solve_ode(model, VP(), x, 1.0, 0.01, max_steps=2)
    run = jax.jit(lambda x: flow.solve_ode(stuck, VP(), x, 1.0, 0.01))
    with pytest.raises(RuntimeError, match="output of the model must be finite"):
        jax.block_until_ready(run(x))


def test_an_unknown_method_is_refused():
    with pytest.raises(InputError, match="tsit5, dopri5, got 'euler'"):
        adaptive(MODELS["gaussian"](VP()), VP(), method="euler")
    with pytest.raises(InputError, match="got 'rk'"):
        flow.solve_ode(MODELS["gaussian"](VP()), VP(), jnp.ones((1, 2)), 1.0, 0.5, method="rk")


@pytest.mark.parametrize(
    ("ends", "options", "message"),
    [
        ((1.0, -0.5), {}, r"times must be in \[0, 1\], got -0.5"),
        ((2.0, 0.5), {}, r"times must be in \[0, 1\], got 2.0"),
        ((1.0, 0.5), {"rtol": -1.0}, "rtol and atol must be finite and at least 0"),
        ((1.0, 0.5), {"rtol": np.inf}, "rtol and atol must be finite and at least 0, got inf"),
        ((1.0, 0.5), {"atol": "a"}, "rtol and atol must be finite and at least 0, got 'a'"),
        ((1.0, 0.5), {"rtol": 0.0, "atol": 0.0}, "must not both be 0, got 0.0 and 0.0"),
        ((1.0, 0.5), {"max_steps": 0}, "max_steps must be a positive integer, got 0"),
    ],
)
def test_invalid_times_and_options_are_refused(ends, options, message):
    with pytest.raises(InputError, match=message):
        flow.solve_ode(MODELS["gaussian"](VP()), VP(), jnp.ones((1, 2)), *ends, **options)


def test_integers_are_refused():
    with pytest.raises(InputError, match="x must be an array of floats, got int32"):
        flow.solve_ode(MODELS["gaussian"](VP()), VP(), jnp.ones((1, 2), int), 0.0, 1.0)


def test_a_command_reports_a_failed_solve_in_one_line(capsys):
    run = jax.jit(
        lambda x: flow.solve_ode(MODELS["gaussian"](VP()), VP(), x, 1.0, 0.01, max_steps=2)
    )
    with pytest.raises(SystemExit) as left:
        cli._guarded(lambda: jax.block_until_ready(run(jnp.ones((1, 2)))), ["command"])
    assert left.value.code == cli.USAGE_ERROR
    assert (
        "error: the adaptive solver did not reach the end within max_steps=2"
        in capsys.readouterr().err
    )
