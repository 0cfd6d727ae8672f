"""Every solver on every process: published samplers, distributions, endpoints, batch mates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from one_program import OneOf, one_of
from process_table import PROCESSES
from solver_samples import (
    AXES,
    DETERMINISTIC,
    MEAN,
    MEAN_ALONG,
    ROWS,
    TRACES,
    VARIANCES,
    assert_within,
    draws,
    endpoint,
    even_times,
    gaussian_model,
    gaussian_x0,
    in_double,
    jitted_sample,
    padded,
)
from solver_table import SOLVERS

import jaxdiff
from experiments.studies.solvers.rows import evaluations
from jaxdiff.processes import VE, VP

TO_THE_DATA = {n: np.linspace(1.0, 0.0, n + 1) for n in (1, 2, 3, 10)}
UNEVEN = np.array([0.93, 0.8, 0.72, 0.3, 0.29, 0.12])
every_process = pytest.mark.parametrize("process", PROCESSES)
every_solver = pytest.mark.parametrize("solver", SOLVERS)


@every_process
@every_solver
def test_samples_are_those_of_the_published_sampler(solver, process):
    """The same noise and formulas in numpy: 1 to 10 steps to t = 0, then an uneven grid.

    Hence the driver steps every solver exactly once over every pair of times, each with its key.
    """
    row, key = PROCESSES[process], jax.random.key(7)
    rng, published = np.random.default_rng(0), SOLVERS[solver].published
    for times in (*TO_THE_DATA.values(), UNEVEN):
        alpha, sigma, _, _ = row.scales(times[0])
        with jax.enable_x64(row.steep):
            dtype = jnp.result_type(float)
            x = (alpha * 0.3 + sigma * rng.normal(size=(ROWS, 2))).astype(dtype)
            shared = in_double(process) if row.steep else one_of(process)
            got = endpoint(solver, shared, x, times, key=key)
            z = draws(key, len(times) - 1, x.shape)
        assert got.dtype == dtype
        assert np.all(np.isfinite(got))
        with np.errstate(divide="ignore", invalid="ignore"):
            expected = published(gaussian_x0(row.scales), row.scales, times, x.astype(float), z)
        # rounding of the noise is multiplied by σ/α, and a steep σ/α is itself less accurate
        tolerance = 1e-6 if row.steep else 2e-5 + 2e-6 * sigma / alpha
        if SOLVERS[solver].in_time:
            tolerance = max(tolerance, row.quadrature)
        scale = 1 + np.max(np.abs(expected))
        np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


@every_process
@pytest.mark.parametrize("solver", ["ancestral", "ddim", "ddim_one"])
def test_fifty_steps_are_within_the_bias_bound_of_the_data(solver, process):
    """From the exact p_1 the mean stays exact, and the variance falls short by less than a bound.

    In x/α, w = λ + ρ², ρ = σ/α, with steps of at most h in log ρ. DDIM keeps ∏ cos²Δφ of w, where
    tan φ = ρ/√λ: Δφ ≤ ½h and ΣΔφ ≤ ½π, so it loses at most ¼πh. A posterior with x̂_0 omits
    λΔ²/(w_t ρ_t²) in a step, Δ = ρ_t² − ρ_s² ≤ 2hρ_t², of which (w_end/w_s)² remains; summed over
    Δ/(w_t w_s) = 1/w_s − 1/w_t it loses at most 2h.
    """
    row, batch = PROCESSES[process], 4096
    times = even_times(one_of(process), row.scales, 50, t_min=row.first_noise)
    ratios = [row.scales(t).sigma / row.scales(t).alpha for t in times.astype(np.float64)]
    h = np.max(-np.diff(np.log(ratios)))
    bound = np.pi / 4 * h if solver == "ddim" else 2 * h

    (first, last), rng = (row.scales(1.0), row.scales(float(times[-1]))), np.random.default_rng(0)
    x0 = MEAN + (rng.normal(size=(batch, 2)) * np.sqrt(VARIANCES)) @ AXES.T
    x = first.alpha * x0 + first.sigma * rng.normal(size=(batch, 2))
    along = np.asarray(endpoint(solver, one_of(process), x, times), np.float64) @ AXES

    variances = last.alpha**2 * VARIANCES + last.sigma**2
    assert_within(along.mean(0), last.alpha * MEAN_ALONG, np.sqrt(variances / batch), atol=1e-5)
    missing = 1 - along.var(0) / variances
    noise = 5 * np.sqrt(2 / batch)
    assert np.all((-noise < missing) & (missing < bound + noise)), (missing, bound)


@every_process
@every_solver
def test_nothing_is_nan_at_either_end_of_time(solver, process):
    """From t = 1 to 1e-5 and then to exactly 0, starting from extremes of the prior."""
    process, sigma = one_of(process), float(PROCESSES[process].scales(1.0).sigma)
    x = padded(sigma * np.array([[0.0, 0.0], [4.0, -4.0], [-1e-3, 1.0]]))
    for times in ([1.0, 0.5, 1e-5], [1.0, 1e-5, 0.0], [1.0, 0.999999], [1.0, 0.0], [1e-5, 0.0]):
        assert np.all(np.isfinite(endpoint(solver, process, x, times)))


@pytest.mark.parametrize("process", [n for n, row in PROCESSES.items() if row.sigma_0 == 0])
@pytest.mark.parametrize(
    "solver", [n for n, row in SOLVERS.items() if not (row.noise_of_x or np.isnan(row.churn))]
)
def test_a_last_step_to_zero_noise_returns_the_estimate_of_the_data(solver, process):
    """σ(0) = 0: the posterior is a point, DDIM and Heun (as Euler) land on x̂_0 itself."""
    row, t = PROCESSES[process], 0.4
    x = np.random.default_rng(0).normal(size=(ROWS, 2)).astype(np.float32)
    got = endpoint(solver, one_of(process), x, [t, 0.0])
    np.testing.assert_allclose(got, gaussian_x0(row.scales)(x, t), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_ode_samples_do_not_depend_on_their_batch_mates(solver):
    process, times = one_of("ve"), np.linspace(1.0, 0.0, 6)
    x = 50 * np.random.default_rng(0).normal(size=(2, ROWS, 2))
    x[1, [0, 7, 15]] = x[0, [0, 7, 15]]
    one, other = (endpoint(solver, process, start, times)[[0, 7, 15]] for start in x)
    np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@every_solver
def test_changing_numbers_does_not_retrace(solver):
    """Nor do parameters of the process; the driver itself is tested in test_sampling.py."""
    one, x = one_of("vp"), np.ones((ROWS, 2))
    other = OneOf(one_of("ve").place, jax.tree.map(lambda leaf: leaf * 1.01, one.rows))
    endpoint(solver, one, x, [1.0, 0.5])
    before = TRACES[solver, "gaussian"]
    endpoint(solver, other, 2 * x, [0.9, 0.3, 0.2], key=jax.random.key(1))
    assert TRACES[solver, "gaussian"] == before > 0


def test_another_process_retraces():
    """Hence the test above counts every trace."""
    before, times = TRACES["ddim", "gaussian"], np.linspace(1, 0.1, 3)
    for process in (VP(), VE()):
        jitted_sample("ddim").trace(process, jax.random.key(0), np.ones((3, 2)), times, 2, ())
    assert TRACES["ddim", "gaussian"] == before + 2


# Number of evaluations


@every_solver
def test_the_network_is_evaluated_as_often_as_documented(solver):
    assert evaluations(SOLVERS[solver].make) == SOLVERS[solver].evaluations


@pytest.mark.parametrize("solver", [n for n, row in SOLVERS.items() if row.evaluations > 1])
def test_a_last_step_to_zero_noise_costs_one_evaluation(solver):
    """VP's σ(0) is 0; VE's is not, so that its last step is like the others."""
    row, counted = SOLVERS[solver], []

    @jax.jit
    def run(process, x, times):
        def denoise_fn(x, t):
            jax.debug.callback(lambda: counted.append(1))
            return gaussian_model(process)(x, t)

        return jaxdiff.sample(jax.random.key(0), row.make(denoise_fn, process), x, times)

    for name, last in (("vp", 1), ("ve", row.evaluations)):
        counted.clear()
        process = one_of(name, ("vp", "ve"))
        run(process, np.ones((3, 2)), np.float32([0.75, 0.5, 0.25, 0.0])).block_until_ready()
        jax.effects_barrier()
        assert len(counted) == 2 * row.evaluations + last, name
