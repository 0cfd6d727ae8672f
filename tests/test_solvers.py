"""Every solver on every process: laws, ends of time, evaluations, invariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from solver_table import (
    PROCESSES,
    SOLVERS,
    vp_scales,
)
from solver_walks import (
    AXES,
    BATCH,
    DETERMINISTIC,
    FLOWS,
    MEAN,
    MEAN_ALONG,
    SMOOTH,
    VARIANCES,
    assert_within,
    gaussian_flow,
    gaussian_model,
    gaussian_x0,
    mixture_model,
    padded,
    slope,
    split,
    walk,
)

import jaxdiff
from jaxdiff import processes, schedules, solvers
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP, Process, SubVP
from jaxdiff.typing import Array

# Every solver on every process


STEPS_OF_X = [  # not of x/α: their noise is in units of x_t
    "euler_maruyama", "euler_maruyama_half", "reverse_diffusion", "ancestral_large"
]  # fmt: skip
TO_THE_DATA = {n: np.linspace(1.0, 0.0, n + 1) for n in (1, 2, 3, 10)}
UNEVEN = np.array([0.93, 0.8, 0.72, 0.3, 0.29, 0.12])


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_are_those_of_the_published_walk(solver, process):
    """The same noise through the same formulas in numpy: 1 to 10 steps to t = 0, then uneven."""
    row, key = PROCESSES[process], jax.random.key(7)
    rng = np.random.default_rng(0)
    for times in (*TO_THE_DATA.values(), UNEVEN):
        alpha, sigma, _, _ = row.scales(times[0])
        x = (alpha * 0.3 + sigma * rng.normal(size=(8, 2))).astype(np.float32)
        got = walk(solver, row.process, padded(x), times, key=key)
        assert got.dtype == np.float32
        assert np.all(np.isfinite(got))
        keys = split(key, len(times) - 1)
        z = [np.asarray(jax.random.normal(k, (BATCH, 2)))[:8].astype(np.float64) for k in keys]
        published = SOLVERS[solver].published
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = published(gaussian_x0(row.scales), row.scales, times, x.astype(float), z)
        # Rounding of the noise is multiplied by σ/α; the σ of a ladder has a kink at every rung,
        # where DEIS integrates as if it were smooth.
        tolerance = 2e-5 + 2e-6 * sigma / alpha
        if solver.startswith("deis"):
            tolerance = {"discrete_ve": 2e-3}.get(process, tolerance)
        scale = 1 + np.max(np.abs(expected))
        np.testing.assert_allclose(got[:8], expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", ["ancestral", "ddim", "ddim_one"])
def test_fifty_steps_come_within_the_bias_bound_of_the_data(solver, process):
    """From the exact law at t = 1 the mean stays exact, and the variance falls short by < a bound.

    In x/α, w = λ + ρ², ρ = σ/α, with steps of at most h in log ρ. DDIM keeps ∏ cos²Δφ of w, where
    tan φ = ρ/√λ: Δφ ≤ ½h and ΣΔφ ≤ ½π, so it loses at most ¼πh. A posterior with x̂_0 leaves
    λΔ²/(w_t ρ_t²) out of a step, Δ = ρ_t² − ρ_s² ≤ 2hρ_t², of which (w_end/w_s)² stays; summed over
    Δ/(w_t w_s) = 1/w_s − 1/w_t it loses at most 2h.
    """
    row, batch = PROCESSES[process], BATCH
    times = np.asarray(schedules.log_snr_times(row.process, 50, t_min=row.first_noise))
    ratios = [row.scales(t).sigma / row.scales(t).alpha for t in times.astype(np.float64)]
    h = np.max(-np.diff(np.log(ratios)))
    bound = np.pi / 4 * h if solver == "ddim" else 2 * h

    (first, last), rng = (row.scales(1.0), row.scales(float(times[-1]))), np.random.default_rng(0)
    x0 = MEAN + (rng.normal(size=(batch, 2)) * np.sqrt(VARIANCES)) @ AXES.T
    x = jnp.asarray(first.alpha * x0 + first.sigma * rng.normal(size=(batch, 2)), jnp.float32)
    along = np.asarray(walk(solver, row.process, x, times), np.float64) @ AXES

    variances = last.alpha**2 * VARIANCES + last.sigma**2
    assert_within(along.mean(0), last.alpha * MEAN_ALONG, np.sqrt(variances / batch), atol=1e-5)
    missing = 1 - along.var(0) / variances
    noise = 5 * np.sqrt(2 / batch)
    assert np.all((-noise < missing) & (missing < bound + noise)), (missing, bound)


@pytest.mark.parametrize(
    "process", [VE(0.01, 50.0), VE(0.01, 348.0), VP(), SubVP(), processes.CosineVP()], ids=repr
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_nothing_is_nan_at_either_end_of_time(solver, process):
    """From t = 1 to 1e-5, and on to 0 exactly, with the prior's own extremes."""
    x = padded(process.sigma(1.0) * jnp.array([[0.0, 0.0], [4.0, -4.0], [-1e-3, 1.0]]))
    for times in ([1.0, 0.5, 1e-5], [1.0, 1e-5, 0.0], [1.0, 0.999999], [1.0, 0.0], [1e-5, 0.0]):
        assert np.all(np.isfinite(walk(solver, process, x, times)))


@pytest.mark.parametrize("process", ["vp", "sub_vp", "cosine_vp", "discrete_vp", "discrete_ve"])
@pytest.mark.parametrize(
    "solver",
    [name for name in SOLVERS if name not in ("stochastic_heun", *STEPS_OF_X)],
)
def test_a_last_step_to_zero_noise_returns_the_estimate_of_the_data(solver, process):
    """σ(0) = 0: the posterior is a point, DDIM and Heun (as Euler) land on x̂_0 itself."""
    row, t = PROCESSES[process], 0.4
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    alpha, sigma, _, _ = row.scales(t)
    gain = alpha * VARIANCES / (alpha**2 * VARIANCES + sigma**2)
    x0 = MEAN + ((x - alpha * MEAN) @ AXES * gain) @ AXES.T
    got = walk(solver, row.process, padded(x), [t, 0.0])[:6]
    np.testing.assert_allclose(got, x0, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_other_numbers_are_never_another_trace(solver, process):
    traces = []

    @jax.jit
    def run(process, key, x, times):
        traces.append(1)
        made = SOLVERS[solver].make(gaussian_model(process), process)
        return jaxdiff.sample(key, made, x, times)

    one = PROCESSES[process].process
    other = jax.tree.map(lambda leaf: leaf * 1.01, one)
    run.trace(one, jax.random.key(0), jnp.zeros((4, 2)), schedules.uniform_times(5))
    run.trace(other, jax.random.key(1), jnp.ones((4, 2)), schedules.uniform_times(5, t_min=0.1))
    assert len(traces) == 1
    run.trace(one, jax.random.key(0), jnp.zeros((4, 2)), schedules.uniform_times(6))
    assert len(traces) == 2  # so a trace is counted


# Number of evaluations


def count_evaluations(solver, process, times):
    counted = []

    def denoise_fn(x, t):
        jax.debug.callback(lambda: counted.append(1))
        return gaussian_model(process)(x, t)

    made = SOLVERS[solver].make(denoise_fn, process)
    x = jaxdiff.sample(jax.random.key(0), made, jnp.ones((3, 2)), times)
    x.block_until_ready()
    jax.effects_barrier()
    return len(counted)


@pytest.mark.parametrize(("process", "t_min"), [(VP(), 0.0), (VE(0.01, 50.0), 0.0)], ids=repr)
@pytest.mark.parametrize("solver", SOLVERS)
def test_network_is_evaluated_as_often_as_documented(solver, process, t_min):
    """n times so many a step; but one on a last step that ends where σ = 0, as VP's does at t=0."""
    n, each = 4, SOLVERS[solver].evaluations
    to_zero = t_min == 0.0 and float(process.sigma(0.0)) < 1e-10
    times = schedules.uniform_times(n, t_min=t_min)
    assert count_evaluations(solver, process, times) == (n - 1) * each + (1 if to_zero else each)


# Invariances


class InUnitsOfSignal(Process):
    """Any process, seen in x/α: α = 1, and σ/α of noise."""

    inner: Process

    def log_alpha(self, t) -> Array:
        return jnp.zeros_like(self.inner.log_alpha(t))

    def variance(self, t) -> Array:
        return jnp.exp(-self.inner.log_snr(t))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("model", FLOWS)
@pytest.mark.parametrize("solver", [n for n in DETERMINISTIC if n[:4] != "deis"])
def test_vp_and_ve_are_one_ode(solver, model):
    """x/α of VP is VE's x, at the times where VE's σ is VP's σ/α, step for step.

    But for DEIS, whose polynomials are in the time of the process: see the test below.
    """
    times = np.linspace(0.9, 0.01, 12)
    ratios = np.array([vp_scales(t).sigma / vp_scales(t).alpha for t in times])
    times_ve = np.log(ratios / 0.01) / np.log(50.0 / 0.01)
    x = np.random.default_rng(0).normal(size=(16, 2 if model == "gaussian" else 1))
    first, last = vp_scales(times[0]).alpha, vp_scales(times[-1]).alpha
    vp = walk(solver, VP(), x, times, model=model)
    ve = walk(solver, VE(0.01, 50.0), x / first, times_ve, model=model)
    np.testing.assert_allclose(vp / last, ve, rtol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", ["sub_vp"])
@pytest.mark.parametrize("solver", [n for n in SOLVERS if n not in STEPS_OF_X])
def test_units_of_signal_change_no_sample(solver, process):
    """The samplers built on the posterior too: their noise is in proportion to α_s."""
    row, times = PROCESSES[process], np.linspace(0.9, 0.05, 12)
    x = np.random.default_rng(0).normal(size=(16, 2))
    first, last = row.process.alpha(times[0]), row.process.alpha(times[-1])
    own = walk(solver, row.process, x, times)
    unit = walk(solver, InUnitsOfSignal(inner=row.process), x / first, times)
    np.testing.assert_allclose(own / last, unit, rtol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(("t", "u", "s"), [(1.0, 0.5, 0.1), (0.7, 0.69, 0.0), (0.1, 0.4, 0.9)])
def test_ddim_composes_where_the_estimate_of_the_data_is_constant(process, t, u, s):
    """t → u → s is t → s: the path is x_s = α_s c + σ_s (x − α_t c)/σ_t, forwards or backwards."""
    row, c = PROCESSES[process], np.array([0.3, -2.0])
    process = row.process

    def denoise_fn(x, time):
        x0 = jnp.broadcast_to(jnp.asarray(c), x.shape)
        return Denoised(x0, (x - process.alpha(time) * x0) / process.sigma(time))

    solver = solvers.ddim(denoise_fn, process)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)))
    ends = [
        jaxdiff.sample(jax.random.key(0), solver, x, jnp.array(times))
        for times in ([t, s], [t, u, s])
    ]
    a_t, sd_t, a_s, sd_s = *row.scales(t)[:2], *row.scales(s)[:2]
    np.testing.assert_allclose(*ends, rtol=1e-9, atol=1e-12)
    expected = a_s * c + sd_s / sd_t * (np.array(x) - a_t * c)
    np.testing.assert_allclose(ends[0], expected, rtol=1e-5, atol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", SMOOTH)
@pytest.mark.parametrize("solver", [n for n in DETERMINISTIC if not SOLVERS[n].memory])
def test_ode_solver_inverts_itself_up_to_its_order(solver, process):
    """There and back the local errors c h² of Euler add, the c h³ and −c h³ of Heun cancel."""
    row, counts = PROCESSES[process], np.array([32, 64, 128])
    x = np.random.default_rng(0).normal(size=(16, 2))
    errors = []
    for n in counts:
        times = np.linspace(0.05, 0.8, n + 1)
        there = walk(solver, row.process, x, times)
        back = walk(solver, row.process, there, times[::-1])
        assert np.max(np.abs(there - gaussian_flow(row.scales, x, 0.05, 0.8))) < 0.5 * np.max(there)
        errors.append(np.max(np.abs(back - x)))
    if solver in ("ddim", "heun"):
        assert slope(counts, errors) == pytest.approx({"ddim": 1, "heun": 3}[solver], abs=0.2)
    else:
        assert slope(counts, errors) > SOLVERS[solver].order - 0.3


@pytest.mark.parametrize("solver", ["ancestral", "ddim_half", "euler_maruyama", "heun"])
def test_one_key_gives_one_sample_with_jit_and_without(solver):
    process, times = VP(), schedules.uniform_times(2)

    def run(key, x):
        made = SOLVERS[solver].make(mixture_model(process), process)
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


@pytest.mark.parametrize("process", ["ve"])
@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_ode_samples_do_not_depend_on_their_batch_mates(solver, process):
    process, times = PROCESSES[process].process, np.linspace(1.0, 0.0, 6, dtype=np.float32)
    x = processes.sample_prior(jax.random.key(0), process, (64, 2))
    together = walk(solver, process, x, times)
    alone = np.concatenate([walk(solver, process, x[i : i + 1], times) for i in (0, 17, 63)])
    np.testing.assert_allclose(alone, together[[0, 17, 63]], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("solver", ["ancestral", "sde_dpmpp_2m", "stochastic_heun"])
def test_a_sample_of_its_own_key_does_not_depend_on_its_batch_mates(solver):
    """Under vmap over keys: row 17 of 64 is the walk of one alone."""
    process, times = VP(), schedules.uniform_times(4)

    @jax.jit
    def run(keys, x):
        made = SOLVERS[solver].make(gaussian_model(process), process)
        return jax.vmap(lambda key, row: jaxdiff.sample(key, made, row[None], times)[0])(keys, x)

    keys, x = jax.random.split(jax.random.key(0), 64), jax.random.normal(jax.random.key(1), (64, 2))
    np.testing.assert_allclose(
        run(keys, x)[17], run(keys[17:18], x[17:18])[0], rtol=1e-6, atol=1e-6
    )
