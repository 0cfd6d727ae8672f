"""Changes that leave samples invariant: units, jit, batch mates, VP or VE; and inversion."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_times import at_times
from one_program import one_of
from process_table import PROCESSES, every_smooth, vp_scales
from quickly import first_is_quick
from solver_samples import (
    DETERMINISTIC,
    FLOWS,
    IN_SIGNAL,
    endpoint,
    gaussian_flow,
    gaussian_model,
    in_double,
    slope,
)
from solver_table import SOLVERS

import jaxdiff
from jaxdiff import schedules, solvers
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VP


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("model", FLOWS)
@pytest.mark.parametrize("solver", [n for n in DETERMINISTIC if not SOLVERS[n].in_time])
def test_vp_and_ve_have_the_same_ode(solver, model):
    """x/α of VP is VE's x, at the times where VE's σ is VP's σ/α, step for step.

    Except for DEIS, whose polynomials are in the time of the process: see the test below.
    """
    times = np.linspace(0.9, 0.01, 12)
    ratios = np.array([vp_scales(t).sigma / vp_scales(t).alpha for t in times])
    times_ve = np.log(ratios / 0.01) / np.log(50.0 / 0.01)
    x = np.random.default_rng(0).normal(size=(16, 2 if model == "gaussian" else 1))
    first, last = vp_scales(times[0]).alpha, vp_scales(times[-1]).alpha
    vp = endpoint(solver, in_double("vp", model), x, times, model=model)
    ve = endpoint(solver, in_double("ve", model), x / first, times_ve, model=model)
    np.testing.assert_allclose(vp / last, ve, rtol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("solver", [n for n, row in SOLVERS.items() if not row.noise_of_x])
def test_units_of_signal_do_not_change_samples(solver):
    """Also for samplers built on the posterior, whose noise is proportional to α_s."""
    times, x = np.linspace(0.9, 0.05, 12), np.random.default_rng(0).normal(size=(16, 2))
    first, last = PROCESSES["subvp"].scales(times[[0, -1]]).alpha
    own = endpoint(solver, in_double("subvp"), x, times)
    unit = endpoint(solver, in_double(IN_SIGNAL), x / first, times)
    np.testing.assert_allclose(own / last, unit, rtol=1e-9)


def model_of_one_point(process, c):
    """The exact model of data at a single point c."""

    def denoise_fn(x, time):
        x0 = jnp.broadcast_to(c, x.shape)
        return Denoised(x0, (x - process.alpha(time) * x0) / process.sigma(time))

    return denoise_fn


@jax.jit
def ddim_of_one_point(process, x, c, t, u, s):
    """The ends of t → s and of t → u → s."""
    process = at_times(process, t, u, s)
    solver = solvers.ddim(model_of_one_point(process, c), process)

    def follow(x, *times):
        for t, s in itertools.pairwise(times):
            x = solver.step(jax.random.key(0), solver.init(x, t), t, s).x
        return x

    return follow(x, t, s), follow(x, t, u, s)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("t", "u", "s"), [(1.0, 0.5, 0.1), (0.7, 0.69, 0.0), (0.1, 0.4, 0.9)])
def test_ddim_composes_where_the_estimate_of_the_data_is_constant(process, t, u, s):
    """t → u → s is t → s: the path is x_s = α_s c + σ_s (x − α_t c)/σ_t, forwards or backwards."""
    row, c = PROCESSES[process], np.array([0.3, -2.0])
    x = np.random.default_rng(0).normal(size=(4, 2))
    ends = ddim_of_one_point(one_of(process), x, c, t, u, s)
    a_t, sd_t, a_s, sd_s = *row.scales(t)[:2], *row.scales(s)[:2]
    np.testing.assert_allclose(*ends, rtol=1e-9, atol=1e-12)
    expected = a_s * c + sd_s / sd_t * (x - a_t * c)
    np.testing.assert_allclose(ends[0], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.usefixtures("x64")
@every_smooth
@pytest.mark.parametrize("solver", [n for n in DETERMINISTIC if not SOLVERS[n].memory])
def test_ode_solver_inverts_itself_to_its_order(solver, process):
    """In a round trip Euler's local errors c h² add up, but Heun's c h³ and −c h³ cancel."""
    row, counts = PROCESSES[process], np.array([32, 64, 128])
    x = np.random.default_rng(0).normal(size=(16, 2))
    errors = []
    for n in counts:
        times = np.linspace(0.05, 0.8, n + 1)
        there = endpoint(solver, in_double(process), x, times)
        back = endpoint(solver, in_double(process), there, times[::-1])
        assert np.max(np.abs(there - gaussian_flow(row.scales, x, 0.05, 0.8))) < 0.5 * np.max(there)
        errors.append(np.max(np.abs(back - x)))
    order = SOLVERS[solver].inverse_order
    if order is None:
        assert slope(counts, errors) > SOLVERS[solver].order - 0.3
    else:
        assert slope(counts, errors) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("solver", first_is_quick(["heun", "euler_maruyama"]))
def test_a_key_determines_the_sample_with_and_without_jit(solver):
    process, times = VP(), schedules.uniform_times(2)

    def run(key, x):
        made = SOLVERS[solver].make(model_of_one_point(process, 0.3), process)
        return jaxdiff.sample(key, made, x, times)

    x = jax.random.normal(jax.random.key(1), (5, 1))
    jitted = jax.jit(run)
    compiled = jitted(jax.random.key(2), x)
    with jax.disable_jit():
        eager = run(jax.random.key(2), x)
    np.testing.assert_allclose(compiled, eager, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(compiled, jitted(jax.random.key(2), x))
    changed = np.max(np.abs(compiled - jitted(jax.random.key(3), x)))
    assert changed == 0 if SOLVERS[solver].deterministic else changed > 0.01


@pytest.mark.parametrize("solver", ["ancestral", "sde_dpmpp_2m", "stochastic_heun"])
def test_a_sample_with_its_own_key_does_not_depend_on_batch_mates(solver):
    """Under vmap over keys: row 7 is the same among others."""
    process, times = VP(), schedules.uniform_times(4)

    @jax.jit
    def run(keys, x):
        made = SOLVERS[solver].make(gaussian_model(process), process)
        return jax.vmap(lambda key, row: jaxdiff.sample(key, made, row[None], times)[0])(keys, x)

    keys, x = jax.random.split(jax.random.key(0), 32), jax.random.normal(jax.random.key(1), (32, 2))
    here, there = run(keys[:16], x[:16]), run(keys[16:].at[7].set(keys[7]), x[16:].at[7].set(x[7]))
    np.testing.assert_allclose(here[7], there[7], rtol=1e-6, atol=1e-6)
    assert np.max(np.abs(here[8] - there[8])) > 1e-3
