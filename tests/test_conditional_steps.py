"""Steps of solvers for measurements against their papers, in plain numpy, axis by axis."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_posteriors import problem
from guidance_table import constant, exact
from process_table import BETAS, PROCESSES, as_float64, exact_scales

from jaxdiff import guidance, processes, solvers
from jaxdiff.guidance import inverse
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VP

KEY = jax.random.key(0)


# The spectrum of an operator

RANK_TWO = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 1.0], [1.0, 3.0, 1.0]])  # the last is the sum
WIDE = problem(components=1, dim=6, measured=3, noise_std=0.5)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("A", [WIDE.A, WIDE.A.T, RANK_TWO], ids=["wide", "tall", "singular"])
def test_spectrum_is_the_decomposition_of_numpy(A):
    found = inverse.spectrum(inverse.matrix(A), (A.shape[1],))
    rank = np.linalg.matrix_rank(A)
    s = np.zeros(A.shape[1])
    s[:rank] = np.linalg.svd(A)[1][:rank]
    np.testing.assert_allclose(found.values, s, atol=1e-12)
    x, y = (np.random.default_rng(0).normal(size=(4, n)) for n in A.shape[::-1])
    along = np.asarray(found.to_axes(jnp.asarray(x)))
    np.testing.assert_allclose(found.from_axes(jnp.asarray(along)), x, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.norm(along * s, axis=1), np.linalg.norm(x @ A.T, axis=1))
    pinv = found.from_axes(found.measured(jnp.asarray(y), 4))
    np.testing.assert_allclose(pinv, y @ np.linalg.pinv(A).T, rtol=1e-8, atol=1e-10)
    one = found.from_axes(found.measured(jnp.asarray(y[0]), 4))
    np.testing.assert_allclose(one, np.tile(pinv[:1], (4, 1)))


def test_spectrum_keeps_the_shape_of_an_image():
    found = inverse.spectrum(inverse.downsample(2), (4, 4, 3))
    np.testing.assert_allclose(found.values, [0.5] * 12 + [0.0] * 36, atol=1e-6)
    x = jnp.arange(96.0).reshape(2, 4, 4, 3)
    np.testing.assert_allclose(found.from_axes(found.to_axes(x)), x, atol=1e-3)


# One step against the papers

U, S, VT = np.linalg.svd(WIDE.A)
STD = WIDE.noise_std
STEPS = [(1.0, 0.8), (0.5, 0.4), (0.2, 0.1), (0.1, 0.02), (0.02, 0.0)]
ESTIMATES = np.random.default_rng(3).normal(size=(4, 6))


def fixed_model(process):
    """x̂_0 is the same for any input; ε̂ follows from x_t."""

    def denoise_fn(x, t):
        x0 = constant(ESTIMATES)
        return Denoised(x0, (x - process.alpha(t) * x0) / process.sigma(t))

    return denoise_fn


@functools.partial(jax.jit, static_argnums=0)
def one_step_of(method, process, key, x, t, s):
    decomposed = inverse.spectrum(inverse.matrix(constant(WIDE.A)), (6,))
    options = {"spectrum": decomposed, "y": constant(WIDE.y), "noise_std": STD}
    solver = getattr(solvers, method)(fixed_model(process), process, **options)
    return solver.step(key, solver.init(x, t), t, s).x


def step_in(process, method, t, s):
    """The step of the library along the axes V, the noise it drew, and x_t along them."""
    x = np.random.default_rng(4).normal(size=(4, 6))
    found = one_step_of(method, process, KEY, x, t, s)
    decomposed = inverse.spectrum(inverse.matrix(constant(WIDE.A)), (6,))
    axes = np.asarray(decomposed.from_axes(jnp.eye(6)))  # the rows; signs differ from numpy's
    z = np.asarray(jax.random.normal(KEY, x.shape))
    pinv = axes @ np.linalg.pinv(WIDE.A) @ WIDE.y
    return np.asarray(found) @ axes.T, z, x @ axes.T, ESTIMATES @ axes.T, pinv


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["vp", "ve"])
@pytest.mark.parametrize(("t", "s"), STEPS)
def test_ddrm_takes_the_step_of_the_paper(name, t, s):
    """Kawar et al. 2022, section 3, for x/α, whose noise is σ/α: axis by axis."""
    eta, process = 0.85, as_float64(PROCESSES[name].process)
    found, z, x, x0, target = step_in(process, "ddrm", t, s)
    (a_t, sd_t), (a_s, sd_s) = (exact_scales(name, time) for time in (t, s))
    sigma_t, sigma_s = sd_t / a_t, sd_s / a_s
    for i in range(6):
        if i >= 3:
            away = (x[:, i] / a_t - x0[:, i]) / sigma_t
            expected = x0[:, i] + sigma_s * (np.sqrt(1 - eta**2) * away + eta * z[:, i])
        elif sigma_s < STD / S[i]:
            away = (target[i] - x0[:, i]) / (STD / S[i])
            expected = x0[:, i] + sigma_s * (np.sqrt(1 - eta**2) * away + eta * z[:, i])
        else:
            expected = target[i] + np.sqrt(sigma_s**2 - (STD / S[i]) ** 2) * z[:, i]
        np.testing.assert_allclose(found[:, i], a_s * expected, rtol=1e-6, atol=1e-8)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("i", [1000, 600, 200, 30, 2, 1])
def test_ddnm_plus_takes_the_step_of_the_paper_on_ddpms_chain(i):
    """Wang et al. 2023, section 3.3 and appendix I: λ and γ of each axis, μ and σ of DDPM."""
    process = as_float64(PROCESSES["ddpm_linear_1000"].process)
    found, z, x, x0, target = step_in(process, "ddnm_plus", i / 1000, (i - 1) / 1000)
    betas = BETAS["ddpm_linear_1000"]
    bars, beta = np.append(1.0, np.cumprod(1 - betas)), betas[i - 1]
    a = np.sqrt(bars[i - 1]) * beta / (1 - bars[i])
    b = np.sqrt(1 - beta) * (1 - bars[i - 1]) / (1 - bars[i])
    sigma = np.sqrt(beta * (1 - bars[i - 1]) / (1 - bars[i]))
    for k in range(6):
        gamma, corrected = sigma**2, x0[:, k]
        if k < 3:
            lam = 1.0 if sigma >= a * STD / S[k] else sigma * S[k] / (a * STD)
            gamma = sigma**2 - (a * STD * lam / S[k]) ** 2
            corrected = x0[:, k] + lam * (target[k] - x0[:, k])
        expected = a * corrected + b * x[:, k] + np.sqrt(max(gamma, 0.0)) * z[:, k]
        np.testing.assert_allclose(found[:, k], expected, rtol=1e-4, atol=2e-5)


def test_repaint_repeats_each_step_from_noise_of_the_time_before():
    """Lugmayr et al. 2022, algorithm 1, by hand; at σ(s) = 0 no noise is added back."""
    process = VP()
    model = exact(process).denoise_fn
    project = guidance.inpainting(process, np.float32([1.0, 0, 0]), np.array([True, False, False]))
    inner = solvers.ancestral(model, process)
    solver = solvers.repaint(solvers.ancestral, project, num_resamples=3)(model, process)

    @jax.jit
    def both(x, t, s):
        got = solver.step(KEY, solver.init(x, t), t, s).x
        scale, std = processes.transition(process, s=s, t=t)
        for u, key in enumerate(jax.random.split(KEY, 3)):
            step_key, project_key, noise_key = jax.random.split(key, 3)
            new = project(project_key, inner.step(step_key, inner.init(x, t), t, s).x, s)
            if u < 2:
                renoised = scale * new + std * jax.random.normal(noise_key, x.shape)
                x = jnp.where(s > 0, renoised, x)
        return got, new

    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    for t, s in [(0.5, 0.4), (0.1, 0.0)]:
        got, by_hand = both(x, np.float32(t), np.float32(s))
        np.testing.assert_allclose(got, by_hand, rtol=1e-5, atol=1e-5)
        assert (got[:, 0] == 1).all() == (s == 0)
