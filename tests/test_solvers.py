"""The solvers against exact flows, exact laws and the papers' own steps; never against themselves.

The orders are measured without Monte-Carlo noise. With the exact model of Gaussian data a step is
affine in x, so its three numbers can be read off and the law of a whole walk follows; for mixtures
the density itself is pushed through the steps by quadrature.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from solver_table import (
    PROCESSES,
    SOLVERS,
    Affine,
    exact_law,
    law_after,
    published_step,
    vp_scales,
)

import jaxdiff
from jaxdiff import oracles, processes, schedules, solvers
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VE, VP, Process, SubVP
from jaxdiff.typing import Array

DETERMINISTIC = [name for name, row in SOLVERS.items() if row.deterministic]
STOCHASTIC = [name for name, row in SOLVERS.items() if not row.deterministic]
SMOOTH = ["vp", "sub_vp", "ve"]

MEAN = np.array([1.0, -0.5])
VARIANCES = np.array([0.8, 0.3])
AXES = np.array([[0.8, -0.6], [0.6, 0.8]])  # a rotation; its columns are the eigenvectors
COV = AXES * VARIANCES @ AXES.T
MEAN_ALONG = MEAN @ AXES

MIXTURE = (np.array([0.3, 0.7]), np.array([[-1.0], [0.8]]), np.array([0.3, 0.5]))


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield
    assert jnp.ones(()).dtype == jnp.float32


def constant(values):
    """In the precision of now: JAX remembers the one in which a numpy array was first traced."""
    return jnp.array(values.tolist())


def gaussian_model(process):
    return oracles.gaussian(process, constant(MEAN), constant(COV))


def mixture_model(process):
    return oracles.mixture(process, *map(constant, MIXTURE))


def gaussian_model_1d(process):
    return oracles.gaussian(process, jnp.array([0.7]), jnp.array([[0.5]]))


MODELS = {
    "gaussian": gaussian_model,
    "gaussian_1d": gaussian_model_1d,
    "mixture": mixture_model,
}


@functools.cache
def jitted_step(solver, model="gaussian"):
    """One step ``(process, key, x, t, s) -> x``, compiled once per process, shape and precision."""

    def step(process, key, x, t, s):
        made = SOLVERS[solver].make(MODELS[model](process), process)
        return made.step(key, made.init(x, t), t, s).x

    return jax.jit(step)


def walk(solver, process, x, times, *, model="gaussian", key=None):
    """The driver's loop in Python, so that walks of any length share one executable.

    That :func:`jaxdiff.sample` is this loop is a test of its own, in test_sampling.py.
    """
    dtype = jnp.result_type(float)
    step, x, times = jitted_step(solver, model), jnp.asarray(x, dtype), np.asarray(times, dtype)
    keys = split(jax.random.key(0) if key is None else key, len(times) - 1)
    for k, t, s in zip(keys, times[:-1], times[1:], strict=True):
        x = step(process, k, x, t, s)
    return np.asarray(x)


def split(key, num):
    """``jax.random.split``, compiled for few lengths only, as raw keys that index for free."""
    size = next(size for size in (3, 64, 512) if num <= size)
    data = np.asarray(jax.random.key_data(jax.random.split(key, size)))
    return [jax.random.wrap_key_data(row) for row in data[:num]]


BATCH = 4096


def padded(x):
    """A few rows in a batch of the one size that is compiled in float32."""
    return jnp.zeros((BATCH, 2)).at[: len(x)].set(x)


def slope(counts, errors):
    """Order of convergence: minus the slope of log error over log n."""
    return -np.polyfit(np.log(counts), np.log(errors), 1)[0]


def assert_within(got, expected, std_error, z=5.0, atol=0.0):
    away = np.abs(np.asarray(got, np.float64) - expected)
    assert np.all(away <= z * std_error + atol), (got, expected, away / std_error)


# Order of the ODE solvers: against the exact flow map


def gaussian_flow(scales, x, t, s):
    """(x − αm)/√(α²λ + σ²) is constant along each eigenvector of the covariance.

    With y = x − αm and v = α²λ + σ² the ODE is y' = (f + ½g²/v) y, and v' = 2fv + g² makes the
    bracket ½v'/v; so y ∝ √v.
    """
    flowed = exact_law(scales, t, s, MEAN_ALONG, VARIANCES, x @ AXES, 0.0, churn=0.0)[0]
    return flowed @ AXES.T


def mixture_law(scales, t):
    """Weights, means and standard deviations of the 1-D mixture at t."""
    weights, means, stds = MIXTURE
    alpha, sigma, _, _ = scales(t)
    return weights, alpha * means[:, 0], np.hypot(alpha * stds, sigma)


def normal_pdf(z):
    return np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)


def mixture_flow(scales, x, t, s):
    """In one dimension the flow keeps order and mass, so it is F_s⁻¹ ∘ F_t."""

    def cdf(z, time):
        weights, means, stds = mixture_law(scales, time)
        return stats.norm.cdf((z[..., None] - means) / stds) @ weights

    target = cdf(x, t)
    low, high = np.full_like(x, -1e3), np.full_like(x, 1e3)
    for _ in range(80):
        middle = 0.5 * (low + high)
        below = cdf(middle, s) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


FLOWS = {"gaussian": gaussian_flow, "mixture": mixture_flow}


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


# One step against the papers


@pytest.mark.parametrize("process", PROCESSES)
def test_ddim_at_eta_one_is_ancestral_sample_for_sample(process):
    """α_s r + α_s(1 − r) = α_s and α_ts σ_s²/σ_t = σ_s √r, with r = SNR_t/SNR_s."""
    row = PROCESSES[process]
    x = jnp.asarray(np.random.default_rng(0).normal(size=(BATCH, 2)), jnp.float32)
    for t, s in [(1.0, 0.9), (0.9, 0.5), (0.5, 0.499), (0.3, row.first_noise), (0.4, 0.0)]:
        x_t = x * row.scales(t).sigma + row.scales(t).alpha
        one, other = (walk(name, row.process, x_t, [t, s]) for name in ("ddim_one", "ancestral"))
        scale = np.hypot(row.scales(s).alpha, row.scales(s).sigma)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * scale, err_msg=f"{t}, {s}")


@pytest.mark.parametrize("eta", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize(("i", "j"), [(1000, 999), (1000, 900), (500, 250), (20, 10), (1, 0)])
def test_ddim_is_the_published_step_on_the_chain(i, j, eta):
    """Song, Meng & Ermon 2021: x_j = √ᾱ_j x̂_0 + √(1 − ᾱ_j − s²) ε̂ + s z (12), s(η) of (16)."""
    bars = np.append(1.0, np.cumprod(1 - np.linspace(1e-4, 0.02, 1000)))
    process = PROCESSES["discrete_vp"].process
    rng = np.random.default_rng(0)
    x, eps = rng.normal(size=(2, 5, 3)).astype(np.float32)
    key = jax.random.key(3)
    z = np.asarray(jax.random.normal(key, x.shape))

    x0 = (x - np.sqrt(1 - bars[i]) * eps) / np.sqrt(bars[i])
    std = eta * np.sqrt((1 - bars[j]) / (1 - bars[i])) * np.sqrt(1 - bars[i] / bars[j])
    mean = np.sqrt(bars[j]) * x0 + np.sqrt(1 - bars[j] - std**2) * eps

    solver = solvers.ddim(eps_model(process, eps), process, eta=eta)
    got = solver.step(key, solver.init(x, i / 1000), i / 1000, j / 1000).x
    np.testing.assert_allclose(got, mean + std * z, rtol=1e-4, atol=1e-4)


def eps_model(process, eps):
    """A model that predicts the same noise whatever it sees."""
    return lambda x, t: Denoised((x - process.sigma(t) * eps) / process.alpha(t), eps)


@pytest.mark.parametrize("i", [1000, 999, 500, 20, 2, 1])
def test_ancestral_is_the_published_step_of_ddpm(i):
    """Ho et al. 2020, eq. 11: (x − β ε̂/√(1 − ᾱ))/√(1 − β) + √β̃ z, β̃ of eq. 7; z = 0 at i = 1."""
    betas = np.linspace(1e-4, 0.02, 1000)
    bars = np.append(1.0, np.cumprod(1 - betas))
    process, beta = PROCESSES["discrete_vp"].process, betas[i - 1]
    rng = np.random.default_rng(i)
    x, eps = rng.normal(size=(2, 5, 3)).astype(np.float32)
    key = jax.random.key(4)
    z = np.asarray(jax.random.normal(key, x.shape))

    mean = (x - beta / np.sqrt(1 - bars[i]) * eps) / np.sqrt(1 - beta)
    std = np.sqrt((1 - bars[i - 1]) / (1 - bars[i]) * beta)

    solver = solvers.ancestral(eps_model(process, eps), process)
    got = solver.step(key, solver.init(x, i / 1000), i / 1000, (i - 1) / 1000).x
    np.testing.assert_allclose(got, mean + std * z, rtol=1e-5, atol=1e-5)
    if i == 1:
        assert std == 0
        np.testing.assert_allclose(got, mean, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("i", [232, 100, 2])
def test_ancestral_is_the_published_step_of_the_ladder(i):
    """Song et al. 2021, appendix F: x + Δ score + √(σ_{i−1}² Δ/σ_i²) z with Δ = σ_i² − σ_{i−1}²."""
    ladder = np.append(0.0, np.geomspace(0.01, 50.0, 232))
    process = PROCESSES["discrete_ve"].process
    high, low = ladder[i], ladder[i - 1]
    rng = np.random.default_rng(i)
    x, eps = rng.normal(size=(2, 5, 3)).astype(np.float32)
    key = jax.random.key(5)
    z = np.asarray(jax.random.normal(key, x.shape))

    expected = x - (high**2 - low**2) * eps / high
    expected = expected + np.sqrt(low**2 * (high**2 - low**2)) / high * z
    solver = solvers.ancestral(eps_model(process, eps), process)
    got = solver.step(key, solver.init(x, i / 232), i / 232, (i - 1) / 232).x
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4 * high)


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.98), (0.5, 0.3), (0.1, 0.0)])
def test_euler_maruyama_is_the_published_step(t, s):
    """Song et al. 2021, appendix E on eq. 6: x + [½βx − β ε̂/σ] Δ + √(βΔ) z for VP, Δ = t − s."""
    scales = vp_scales(t)
    beta, delta = 0.1 + 19.9 * t, t - s
    rng = np.random.default_rng(0)
    x, eps = rng.normal(size=(2, 5, 3)).astype(np.float32)
    key = jax.random.key(6)
    z = np.asarray(jax.random.normal(key, x.shape))

    expected = x + (0.5 * beta * x - beta * eps / scales.sigma) * delta + np.sqrt(beta * delta) * z
    solver = solvers.euler_maruyama(eps_model(VP(), eps), VP())
    got = solver.step(key, solver.init(x, t), jnp.asarray(t), jnp.asarray(s)).x
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_heun_is_the_published_step():
    """Karras et al. 2022, algorithm 1, on VE, where σ is the time: lines 4 to 8 in numpy."""
    process, t, s = VE(0.01, 50.0), 0.6, 0.4
    t_now, t_next = (0.01 * 5000**time for time in (t, s))
    x = np.random.default_rng(0).normal(size=(5, 3)) * t_now

    def denoise(x, level):  # any model does; this one is not linear
        return np.tanh(x / (1 + level))

    slope_now = (x - denoise(x, t_now)) / t_now
    euler = x + (t_next - t_now) * slope_now
    slope_next = (euler - denoise(euler, t_next)) / t_next
    expected = x + (t_next - t_now) * 0.5 * (slope_now + slope_next)

    def denoise_fn(x, time):
        sigma = process.sigma(time)
        x0 = jnp.tanh(x / (1 + sigma))
        return Denoised(x0, (x - x0) / sigma)

    solver = solvers.heun(denoise_fn, process)
    got = solver.step(jax.random.key(0), solver.init(jnp.asarray(x), t), t, s).x
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=1e-5)


# Every solver on every process


@pytest.mark.parametrize("n", [1, 2, 3, 50])
@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_have_the_law_that_the_published_steps_give(solver, process, n):
    """Mean and covariance in numpy, bias of n steps and of the prior included; so only 5 s.e. left.

    Few steps go from t = 1 to t = 0 itself; fifty are spaced in log SNR.
    """
    row, batch = PROCESSES[process], BATCH
    times = schedules.uniform_times(n)
    if n == 50:
        times = schedules.log_snr_times(row.process, n, t_min=row.first_noise)
    key, prior_key = jax.random.split(jax.random.key(n))
    x = processes.sample_prior(prior_key, row.process, (batch, 2))
    x = walk(solver, row.process, x, times, key=key)
    assert x.shape == (batch, 2)
    assert x.dtype == np.float32
    assert np.all(np.isfinite(x))

    pairs = np.asarray(times, np.float64)
    means, variances = [], []
    for mean, variance in zip(MEAN_ALONG, VARIANCES, strict=True):
        steps = [
            published_step(solver, row.scales, t, s, mean, variance)
            for t, s in itertools.pairwise(pairs)
        ]
        law = law_after(steps, 0.0, row.scales(1.0).sigma ** 2)
        means.append(law[0])
        variances.append(law[1])
    along = np.asarray(x, np.float64) @ AXES
    rounding = 1e-6 * max(1.0, np.sqrt(np.max(variances)))
    assert_within(along.mean(0), means, np.sqrt(np.divide(variances, batch)), atol=rounding)
    spread = np.sqrt(np.outer(variances, variances) / batch)  # of a covariance
    spread[[0, 1], [0, 1]] *= np.sqrt(2)  # and of a variance
    assert_within(np.cov(along.T), np.diag(variances), spread, atol=rounding**2)


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
@pytest.mark.parametrize("solver", ["ancestral", "ddim", "ddim_half", "ddim_one", "heun"])
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


@pytest.mark.parametrize("t_min", [0.0, 0.01])
@pytest.mark.parametrize("process", [VP(), VE(0.01, 50.0)], ids=["vp", "ve"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_network_is_evaluated_as_often_as_documented(solver, process, t_min):
    """n, or 2n for Heun; 2n − 1 if the last step ends where σ = 0, which VE never reaches."""
    n = 7
    expected = SOLVERS[solver].evaluations * n
    if solver == "heun" and t_min == 0.0 and isinstance(process, VP):
        expected = 2 * n - 1
    times = schedules.uniform_times(n, t_min=t_min)
    assert count_evaluations(solver, process, times) == expected


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
@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_vp_and_ve_are_one_ode(solver, model):
    """x/α of VP is VE's x, at the times where VE's σ is VP's σ/α, step for step."""
    times = np.linspace(0.9, 0.01, 12)
    ratios = np.array([vp_scales(t).sigma / vp_scales(t).alpha for t in times])
    times_ve = np.log(ratios / 0.01) / np.log(50.0 / 0.01)
    x = np.random.default_rng(0).normal(size=(16, 2 if model == "gaussian" else 1))
    first, last = vp_scales(times[0]).alpha, vp_scales(times[-1]).alpha
    vp = walk(solver, VP(), x, times, model=model)
    ve = walk(solver, VE(0.01, 50.0), x / first, times_ve, model=model)
    np.testing.assert_allclose(vp / last, ve, rtol=1e-9)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", ["sub_vp", "discrete_vp"])
@pytest.mark.parametrize("solver", ["ancestral", "ddim_half", "heun"])
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
@pytest.mark.parametrize("solver", DETERMINISTIC)
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
    assert slope(counts, errors) == pytest.approx({1: 1, 2: 3}[SOLVERS[solver].order], abs=0.2)


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


@pytest.mark.parametrize("process", ["vp", "ve", "discrete_vp"])
@pytest.mark.parametrize("solver", DETERMINISTIC)
def test_ode_samples_do_not_depend_on_their_batch_mates(solver, process):
    process, times = PROCESSES[process].process, np.linspace(1.0, 0.0, 6, dtype=np.float32)
    x = processes.sample_prior(jax.random.key(0), process, (64, 2))
    together = walk(solver, process, x, times)
    alone = np.concatenate([walk(solver, process, x[i : i + 1], times) for i in (0, 17, 63)])
    np.testing.assert_allclose(alone, together[[0, 17, 63]], rtol=1e-6, atol=1e-6)
