"""Methods for inverse problems against the exact posterior of Gaussian data, and their papers."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_posteriors import given_both, problem
from guidance_table import constant
from one_program import one_of
from process_table import BETAS, PROCESSES, as_float64

from jaxdiff import oracles, solvers
from jaxdiff.guidance import inverse
from jaxdiff.predictions import Denoised
from jaxdiff.processes import VP
from jaxdiff.typing import InputError

GAUSSIAN = problem(components=1, dim=8, measured=3, noise_std=0.1)
TIMES = np.array([1e-3, 0.05, 0.1, 0.3, 0.6, 0.9, 1.0])
TIGHT = inverse.Tolerance(1e-14, 50)


scales = jax.jit(lambda process, t: (process.alpha(t), process.sigma(t)))


def noised(given, process, seed=0):
    """One x_t of the data at each time, and the exact E[x_0 | x_t, y] and E[ε | x_t, y]."""
    alpha, sigma = map(np.asarray, scales(process, TIMES))
    rng = np.random.default_rng(seed)
    root = np.linalg.cholesky(given.covs[0])
    x0 = given.means[0] + rng.normal(size=(len(TIMES), given.A.shape[1])) @ root.T
    x_t = alpha[:, None] * x0 + sigma[:, None] * rng.normal(size=x0.shape)
    both = [given_both(given, *each) for each in zip(x_t, alpha, sigma, strict=True)]
    return x_t, Denoised(*np.swapaxes(both, 0, 1))


def guided(method, given, process, x, t, **options):
    """The estimate of a method with the exact model of a mixture."""
    model = oracles.mixture(process, *map(constant, given[:3]))
    operator, y = inverse.matrix(constant(given.A)), constant(given.y)
    return method(model, process, operator=operator, y=y, **options)(x, t)


@jax.jit
def mmps_of_gaussian(process, x, t):
    noise_std = GAUSSIAN.noise_std
    return guided(inverse.mmps, GAUSSIAN, process, x, t, noise_std=noise_std, tolerance=TIGHT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", PROCESSES)
def test_mmps_solved_to_tolerance_is_the_exact_posterior_mean_of_gaussian_data(name):
    """To 1e-10 at every t, of every process, in both views."""
    x, exact = noised(GAUSSIAN, one_of(name))
    found = mmps_of_gaussian(one_of(name), x, TIMES)
    for view, expected in zip(found, exact, strict=True):
        np.testing.assert_allclose(view, expected, atol=1e-10)
    plain = oracles.gaussian(one_of(name), GAUSSIAN.means[0], GAUSSIAN.covs[0])
    assert np.max(np.abs(jax.jit(plain)(x, TIMES).x0 - exact.x0)) > 0.3


STANDARD = GAUSSIAN._replace(covs=np.eye(8)[None])
NOISELESS = STANDARD._replace(noise_std=0.0)


@functools.partial(jax.jit, static_argnums=0)
def pigdm_of(noisy, process, x, t):
    given = STANDARD if noisy else NOISELESS
    return guided(inverse.pigdm, given, process, x, t, noise_std=given.noise_std, tolerance=TIGHT)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("name", PROCESSES)
def test_pigdm_is_exact_for_data_of_unit_covariance(name, noisy):
    """r² = σ²/(α² + σ²) is then the variance of x_0 given x_t, with and without noise in y."""
    given = STANDARD if noisy else NOISELESS
    x, exact = noised(given, one_of(name))
    found = pigdm_of(noisy, one_of(name), x, TIMES)
    for view, expected in zip(found, exact, strict=True):
        scale = np.max(np.abs(expected), axis=1, keepdims=True)
        np.testing.assert_allclose(view / scale, expected / scale, atol=1e-10)


MEAN, COV, A, Y, STD = GAUSSIAN.means[0], GAUSSIAN.covs[0], *GAUSSIAN[3:]


def pigdm_x0(x0, cov, alpha, sigma):
    """Song et al. 2023: ∇ log N(y; A x̂_0, s²I + r²AAᵀ) through x̂_0 alone."""
    spread = STD**2 * np.eye(3) + sigma**2 / (alpha**2 + sigma**2) * A @ A.T
    return x0 + cov @ A.T @ np.linalg.solve(spread, Y - A @ x0)


def tmpd_x0(x0, cov, alpha, sigma):
    """Boys et al. 2023, with the diagonal of A V Aᵀ."""
    return x0 + cov @ A.T @ ((Y - A @ x0) / (STD**2 + np.diag(A @ cov @ A.T)))


def tmpd_row_sum_x0(x0, cov, alpha, sigma):
    spread = STD**2 + np.maximum(A @ cov @ A.T @ np.ones(3), 0.0)
    return x0 + cov @ A.T @ ((Y - A @ x0) / spread)


def diffpir_x0(x0, cov, alpha, sigma):
    """Zhu et al. 2023, eq. 13, from its normal equations."""
    rho = 7.0 * STD**2 * alpha**2 / sigma**2
    return np.linalg.solve(A.T @ A + rho * np.eye(8), A.T @ Y + rho * x0)


def ddnm_x0(x0, cov, alpha, sigma):
    """Wang et al. 2023, eq. 13."""
    pinv = np.linalg.pinv(A)
    return pinv @ Y + (np.eye(8) - pinv @ A) @ x0


NOISE = {"noise_std": STD}
PUBLISHED = {
    "pigdm": (functools.partial(inverse.pigdm, tolerance=TIGHT, **NOISE), pigdm_x0),
    "tmpd": (functools.partial(inverse.tmpd, covariance="diagonal", **NOISE), tmpd_x0),
    "tmpd_row_sum": (functools.partial(inverse.tmpd, **NOISE), tmpd_row_sum_x0),
    "diffpir": (
        functools.partial(inverse.diffpir, strength=7.0, tolerance=TIGHT, **NOISE), diffpir_x0
    ),
    "ddnm": (functools.partial(inverse.ddnm, tolerance=TIGHT), ddnm_x0),
}  # fmt: skip


@functools.partial(jax.jit, static_argnums=0)
def of_gaussian(name, process, x, t):
    return guided(PUBLISHED[name][0], GAUSSIAN, process, x, t)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["vp", "ve"])
@pytest.mark.parametrize("method", PUBLISHED)
def test_estimate_of_gaussian_data_equals_that_of_the_paper(method, name):
    """Its x̂_0' from the exact x̂_0 and Cov(x_0 | x_t), in numpy; its ε̂' from x_t = α x̂_0' + σ ε̂'."""
    x, _ = noised(GAUSSIAN, one_of(name))
    found = of_gaussian(method, one_of(name), x, TIMES)
    for i, (alpha, sigma) in enumerate(np.transpose(scales(one_of(name), TIMES))):
        gain = alpha * COV @ np.linalg.inv(alpha**2 * COV + sigma**2 * np.eye(8))
        x0, cov = MEAN + gain @ (x[i] - alpha * MEAN), COV - alpha * gain @ COV
        expected = PUBLISHED[method][1](x0, cov, alpha, sigma)
        assert np.max(np.abs(expected - x0)) > 1e-6
        np.testing.assert_allclose(found.x0[i], expected, rtol=1e-8, atol=1e-9)
        total = alpha * np.asarray(found.x0[i]) + sigma * np.asarray(found.eps[i])
        np.testing.assert_allclose(total, x[i], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("y", [np.ones(3, np.float32), np.ones((7, 3), np.float32)], ids=len)
def test_mmps_evaluates_the_network_once(y):
    """All products with its Jacobian come from one forward pass; y may differ per example."""
    calls, process = Counter(), VP()
    exact = oracles.gaussian(process, *map(np.float32, (GAUSSIAN.means[0], GAUSSIAN.covs[0])))

    def counted(x, t):
        jax.debug.callback(lambda: calls.update(["evaluation"]))
        return exact(x, t)

    model = inverse.mmps(
        counted, process, operator=inverse.matrix(np.float32(GAUSSIAN.A)), y=y, noise_std=0.1
    )
    estimate = jax.jit(model)(jnp.ones((7, 8)), 0.5)
    jax.effects_barrier()
    assert calls["evaluation"] == 1
    np.testing.assert_allclose(estimate.x0, np.tile(estimate.x0[:1], (7, 1)), rtol=1e-5)


@jax.jit
def step_of_dps(key, process, x, t, s):
    """One step of ancestral sampling with the exact model of the Gaussian data."""
    model = oracles.mixture(process, *map(constant, GAUSSIAN[:3]))
    operator, y = inverse.matrix(constant(GAUSSIAN.A)), constant(GAUSSIAN.y)
    solver = solvers.ancestral(
        inverse.dps(model, process, operator=operator, y=y, scale=0.7), process
    )
    return solver.step(key, solver.init(x, t), t, s).x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("i", [1000, 700, 300, 50, 2, 1])
def test_dps_with_ancestral_sampling_is_the_published_algorithm_on_ddpms_chain(i):
    """Chung et al. 2023, algorithm 1, as released: x' of DDPM, then x ← x' − ζ ∇‖y − A x̂_0‖."""
    bars = np.append(1.0, np.cumprod(1 - BETAS["ddpm_linear_1000"]))
    bar, before, beta = bars[i], bars[i - 1], BETAS["ddpm_linear_1000"][i - 1]
    mean, cov, A = GAUSSIAN.means[0], GAUSSIAN.covs[0], GAUSSIAN.A
    x = np.random.default_rng(i).normal(size=(4, 8))
    key = jax.random.key(i)
    z = np.asarray(jax.random.normal(key, x.shape))

    gain = np.sqrt(bar) * cov @ np.linalg.inv(bar * cov + (1 - bar) * np.eye(8))
    x0 = mean + (x - np.sqrt(bar) * mean) @ gain.T
    residual = GAUSSIAN.y - x0 @ A.T
    slope = -(residual / np.linalg.norm(residual, axis=1, keepdims=True)) @ A @ gain
    step = np.sqrt(before) * beta * x0 + np.sqrt(1 - beta) * (1 - before) * x
    std = np.sqrt(beta * (1 - before) / (1 - bar))
    expected = step / (1 - bar) + std * z - 0.7 * slope

    process = as_float64(PROCESSES["ddpm_linear_1000"].process)
    got = step_of_dps(key, process, x, i / 1000, (i - 1) / 1000)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def model(x, t):
    return Denoised(x, x)


def refused(method, call=False, **options):
    """The method with options of which one is invalid; some are found when it is called."""
    options = {"operator": lambda x: x[:, :2], "y": np.zeros(2, np.float32), **options}
    made = method(model, VP(), **options)
    return made(jnp.ones((4, 3)), 0.5) if call else made


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        (inverse.mmps, {"noise_std": -0.1}, "noise_std must be non-negative and finite, got -0.1"),
        (inverse.pigdm, {"noise_std": np.inf}, "noise_std must be non-negative and finite, got in"),
        (inverse.tmpd, {"noise_std": 0.0}, "noise_std must be positive and finite, got 0.0"),
        (inverse.ddnm, {"y": np.array([0.0, np.nan])}, "y must be finite, got [ 0. nan]"),
        (inverse.tmpd, {"noise_std": 1.0, "covariance": "full"}, "covariance must be one of diago"),
        (inverse.diffpir, {"noise_std": 1.0, "strength": 0.0}, "strength must be positive and fin"),
        (inverse.dps, {"scale": -1.0}, "scale must be non-negative and finite, got -1.0"),
        (inverse.dps, {"scale": np.nan}, "scale must be non-negative and finite, got nan"),
        (inverse.dps, {"num_steps": 0}, "num_steps must be a positive integer, got 0"),
        (
            inverse.ddnm,
            {"tolerance": inverse.Tolerance(0.0)},
            "tolerance.relative must be in (0, 1), got 0.0",
        ),
        (
            inverse.mmps,
            {"noise_std": 1.0, "tolerance": inverse.Tolerance(max_steps=0)},
            "tolerance.max_steps must be a positive integer, got 0",
        ),
        *(
            (
                method,
                {**options, "y": np.zeros(3, np.float32), "call": True},
                "operator must return y's shape, (3,), for each example or for the batch, got "
                "shape (4, 2) for 4 examples",
            )
            for method, options in (
                (inverse.mmps, NOISE),
                (inverse.pigdm, NOISE),
                (inverse.tmpd, NOISE),
                (inverse.diffpir, NOISE),
                (inverse.dps, {}),
                (inverse.ddnm, {}),
            )
        ),
    ],
)
def test_invalid_problems_are_refused_in_one_line(method, options, message):
    with pytest.raises(InputError) as error:
        refused(method, **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
