"""The driver: a solver that records its arguments shows the keys, the times and the states."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from process_table import PROCESSES, vp_scales
from solver_samples import gaussian_model
from solver_table import SOLVERS

import jaxdiff
from jaxdiff import oracles, schedules, solvers
from jaxdiff.processes import VE, VP
from jaxdiff.solvers import Solver
from jaxdiff.typing import Array, InputError

TIMES = schedules.uniform_times(5)


class Record(NamedTuple):
    x: Array
    key: Array
    t: Array
    s: Array


RECORDER = Solver(
    init=lambda x, t: Record(x, jnp.zeros(2, jnp.uint32), t, t),
    step=lambda key, state, t, s: Record(state.x + 1, jax.random.key_data(key), t, s),
)

RANDOM_WALK = solvers.one_step(lambda key, x, t, s: x + jax.random.normal(key, x.shape))


def everything(state):
    return state


@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_every_pair_of_times_is_stepped_once_and_in_order(n, direction):
    times = schedules.uniform_times(n)[::direction]
    x, saved = jaxdiff.trajectory(
        jax.random.key(0), RECORDER, jnp.zeros((2, 3)), times, save_fn=everything
    )
    np.testing.assert_array_equal(saved.t[1:], times[:-1])
    np.testing.assert_array_equal(saved.s, times)  # init was given times[0]
    np.testing.assert_array_equal(x, np.full((2, 3), n))
    np.testing.assert_array_equal(saved.x[:, 0, 0], np.arange(n + 1))


def test_every_step_has_its_own_key():
    _, saved = jaxdiff.trajectory(
        jax.random.key(0),
        RECORDER,
        jnp.zeros((1, 1)),
        schedules.uniform_times(50),
        save_fn=everything,
    )
    assert len({tuple(key) for key in np.asarray(saved.key[1:])}) == 50


def test_noise_of_different_steps_and_examples_is_uncorrelated():
    """A random walk's increments are its noise: correlations are 0 ± 1/√N, variances 1 ± √(2/N)."""
    n, batch = 6, 4000
    _, saved = jaxdiff.trajectory(
        jax.random.key(0), RANDOM_WALK, jnp.zeros((batch, 1)), schedules.uniform_times(n)
    )
    noise = np.diff(np.asarray(saved[..., 0], np.float64), axis=0)
    cov = noise @ noise.T / batch
    away = np.abs(cov - np.eye(n))
    assert np.all(away <= 5 / np.sqrt(batch) * np.where(np.eye(n), np.sqrt(2), 1.0))
    neighbours = np.mean(noise[:, 1:] * noise[:, :-1])
    assert abs(neighbours) <= 5 / np.sqrt(n * (batch - 1))


def test_the_trajectory_begins_with_x_init_and_ends_with_the_sample():
    x_init = jax.random.normal(jax.random.key(1), (3, 2))
    key = jax.random.key(0)
    x, saved = jaxdiff.trajectory(key, RANDOM_WALK, x_init, TIMES)
    assert saved.shape == (6, 3, 2)
    np.testing.assert_array_equal(saved[0], x_init)
    np.testing.assert_array_equal(saved[-1], x)
    np.testing.assert_array_equal(x, jaxdiff.sample(key, RANDOM_WALK, x_init, TIMES))


@pytest.mark.parametrize("solver", ["ancestral", "dpmpp_3m", "unipc_3"])
def test_sample_is_the_loop_over_the_pairs_of_times(solver):
    """For one-step solvers and both kinds of multistep; test_solvers.py has every solver."""
    process, times, key = VE(), np.linspace(1.0, 0.0, 6, dtype=np.float32), jax.random.key(0)
    x = 50 * np.random.default_rng(0).normal(size=(4, 2)).astype(np.float32)
    made = SOLVERS[solver].make(gaussian_model(process), process)
    step, state = jax.jit(made.step), made.init(x, times[0])
    for k, t, s in zip(jax.random.split(key, 5), times[:-1], times[1:], strict=True):
        state = step(k, state, t, s)
    got = jax.jit(lambda key, x: jaxdiff.sample(key, made, x, times))(key, x)
    np.testing.assert_allclose(got, state.x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("solver", ["ddim", "unipc_2", "stochastic_heun"])
def test_changing_numbers_does_not_retrace(solver):
    traces = []

    @jax.jit
    def run(process, key, x, times):
        traces.append(1)
        made = SOLVERS[solver].make(gaussian_model(process), process)
        return jaxdiff.sample(key, made, x, times)

    one = PROCESSES["vp"].process
    other = jax.tree.map(lambda leaf: leaf * 1.01, one)
    run.trace(one, jax.random.key(0), jnp.zeros((4, 2)), schedules.uniform_times(5))
    run.trace(other, jax.random.key(1), jnp.ones((4, 2)), schedules.uniform_times(5, t_min=0.1))
    assert len(traces) == 1
    run.trace(one, jax.random.key(0), jnp.zeros((4, 2)), schedules.uniform_times(6))
    assert len(traces) == 2  # so that traces are counted


def test_save_fn_may_return_any_pytree_of_the_state():
    def pick(state):
        return {"mean": jnp.mean(state.x), "time": (state.s, None), "first": state.x[0]}

    x, saved = jaxdiff.trajectory(
        jax.random.key(0), RECORDER, jnp.array([[1.0], [3.0]]), TIMES, save_fn=pick
    )
    np.testing.assert_allclose(saved["mean"], 2 + np.arange(6))
    np.testing.assert_allclose(saved["time"][0], TIMES)
    assert saved["time"][1] is None
    np.testing.assert_allclose(saved["first"], 1 + np.arange(6.0)[:, None])
    np.testing.assert_allclose(x, [[6.0], [8.0]])


def test_sampling_can_start_at_any_time():
    """A point mass c from x at t: DDIM follows α_s c + σ_s (x − α_t c)/σ_t from any start."""
    process, c = VP(), 2.0

    def denoise_fn(x, t):
        x0 = jnp.full_like(x, c)
        return jaxdiff.predictions.Denoised(x0, (x - process.alpha(t) * c) / process.sigma(t))

    x = np.random.default_rng(0).normal(size=(5, 4, 4, 3)).astype(np.float32)
    got = jaxdiff.sample(
        jax.random.key(0), solvers.ddim(denoise_fn, process), x, jnp.linspace(0.5, 0.2, 4)
    )
    (a_t, sd_t, _, _), (a_s, sd_s, _, _) = vp_scales(0.5), vp_scales(0.2)
    np.testing.assert_allclose(got, a_s * c + sd_s / sd_t * (x - a_t * c), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "times",
    [[1.0, 0.5, 0.5, 0.0], [1.0, 0.2, 0.4, 0.0], [0.0, 0.5, 0.2], [0.3, 0.3], [1.0, np.nan, 0.0]],
)
@pytest.mark.parametrize("drive", [jaxdiff.sample, jaxdiff.trajectory])
def test_times_that_repeat_or_change_direction_are_refused(drive, times):
    with pytest.raises(InputError, match=r"times must decrease strictly .* got \["):
        drive(jax.random.key(0), RANDOM_WALK, jnp.zeros((1, 1)), jnp.array(times))


@pytest.mark.parametrize("times", [[1.5, 0.5], [0.5, -0.1], [np.inf, 0.5], [0.2, 1.001]])
def test_times_beyond_data_and_noise_are_refused(times):
    with pytest.raises(InputError, match=r"times must be in \[0, 1\], from data to noise, got \["):
        jaxdiff.sample(jax.random.key(0), RANDOM_WALK, jnp.zeros((1, 1)), jnp.array(times))


@pytest.mark.parametrize(
    ("times", "shape"),
    [(0.5, r"\(\)"), ([0.5], r"\(1,\)"), ([], r"\(0,\)"), ([[1, 0]], r"\(1, 2\)")],
)
@pytest.mark.parametrize("drive", [jaxdiff.sample, jaxdiff.trajectory])
def test_times_that_are_not_a_grid_are_refused(drive, times, shape):
    with pytest.raises(
        InputError, match=rf"times must be a vector of at least two .* shape {shape}"
    ):
        drive(jax.random.key(0), RANDOM_WALK, jnp.zeros((1, 1)), jnp.array(times))


def test_times_may_be_numpy_and_may_be_made_inside_jit():
    x_init, key = jnp.zeros((3, 1)), jax.random.key(0)
    expected = jaxdiff.sample(key, RANDOM_WALK, x_init, TIMES)
    np.testing.assert_array_equal(
        jaxdiff.sample(key, RANDOM_WALK, x_init, np.asarray(TIMES)), expected
    )

    @jax.jit
    def run(process, x):
        times = schedules.karras_times(process, 5)
        return jaxdiff.trajectory(key, RECORDER, x, times, save_fn=lambda state: state.s)

    x, visited = run(VP(), x_init)
    np.testing.assert_array_equal(x, np.full((3, 1), 5))
    np.testing.assert_allclose(visited, schedules.karras_times(VP(), 5), rtol=1e-5)


@pytest.mark.parametrize("solver", ["ancestral", "ddim_half", "euler_maruyama"])
def test_keys_give_independent_samples_of_one_distribution(solver):
    """Two keys from one start: the correlation is 0 ± 1/√N, and the variances agree."""
    process, batch = VP(), 4000
    exact = oracles.gaussian(process, jnp.zeros(1), jnp.eye(1))
    made = SOLVERS[solver].make(exact, process)
    run = jax.jit(lambda key, x: jaxdiff.sample(key, made, x, jnp.linspace(0.6, 0.3, 4)))
    one, other = (
        np.asarray(run(jax.random.key(k), jnp.ones((batch, 1)))[:, 0], np.float64) for k in (1, 2)
    )
    assert abs(np.corrcoef(one, other)[0, 1]) <= 5 / np.sqrt(batch)
    assert abs(np.log(one.var() / other.var())) <= 5 * np.sqrt(4 / batch)
    assert one.std() > 0.1


def test_samples_can_be_mapped_over_keys_and_differentiated_in_the_start():
    """DDIM's end is linear in its start where the data is a standard normal: the slope is known."""
    process = VP()
    exact = oracles.gaussian(process, jnp.zeros(1), jnp.eye(1))
    times = jnp.linspace(0.5, 0.2, 6)
    angles = np.array([np.arctan2(vp_scales(t).sigma, vp_scales(t).alpha) for t in np.array(times)])
    expected = np.prod(np.cos(np.diff(angles)))  # √λ = 1 shrinks by the cosine of every angle

    def end(x):
        made = solvers.ddim(exact, process)
        return jaxdiff.sample(jax.random.key(0), made, x[None, None], times)[0, 0]

    slopes = jax.vmap(jax.grad(end))(jnp.array([0.3, -1.0]))
    np.testing.assert_allclose(slopes, expected, rtol=1e-5)
