"""Latent codes: round trips by the ODE and by DDIM, and the paths between codes."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from known_times import at_times
from one_program import one_of
from process_table import PROCESSES, QUICK, SMOOTH
from solver_samples import MODELS, gaussian_x0, mixture_flow, mixture_model

import jaxdiff
from jaxdiff import latents, schedules, solvers
from jaxdiff.typing import InputError

pytestmark = pytest.mark.usefixtures("nan_where_short")

DIM = {"gaussian": 2, "mixture": 1}
T_MIN = 1e-3


def data(model, n=64):
    return np.random.default_rng(0).uniform(-2, 2, (n, DIM[model])).astype(np.float32)


# By the ODE


@jax.jit
def there_and_back(process, x):
    denoise_fn = mixture_model(process)
    code = latents.encode(denoise_fn, process, x, t_min=T_MIN)
    return code, latents.decode(denoise_fn, process, code, t_min=T_MIN)


@pytest.mark.slow
@pytest.mark.parametrize("process", QUICK)
def test_encoding_is_exact_and_decoding_inverts_it(process):
    """For a process of each family; test_adaptive.py runs the same solution on all of them."""
    row, x = PROCESSES[process], data("mixture")
    code, back = there_and_back(one_of(process, tuple(QUICK)), x)
    np.testing.assert_allclose(back, x, atol=1e-4)
    exact, sigma = mixture_flow(row.scales, x.astype(float), T_MIN, 1.0), row.scales(1.0).sigma
    np.testing.assert_allclose(code / sigma, exact / sigma, atol=1e-4)


# By DDIM


@functools.cache
def ddim_round_trip(model, inversion):
    def run(process, x, times):
        process = at_times(process, times)
        key, denoise_fn = jax.random.key(0), MODELS[model](process)
        code = jaxdiff.sample(key, inversion(denoise_fn, process), x, times[::-1])
        return jaxdiff.sample(key, solvers.ddim(denoise_fn, process), code, times)

    return jax.jit(run)


@functools.partial(jax.jit, static_argnums=1)
def log_snr_times(process, n):
    return schedules.log_snr_times(process, n, t_min=T_MIN)


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize("model", DIM)
def test_ddim_inversion_is_accurate_to_a_thousandth_in_a_hundred_steps(model, process):
    x, evenly = data(model), np.linspace(1.0, T_MIN, 101, dtype=np.float32)
    for times in (log_snr_times(one_of(process), 100), evenly):
        back = ddim_round_trip(model, solvers.ddim_inversion)(one_of(process), x, times)
        np.testing.assert_allclose(back, x, atol=1e-3)


def test_ddim_on_increasing_times_inverts_only_to_its_order():
    """The usual inversion: not the inverse of the sampler, but another solution of the ODE."""
    process, x = PROCESSES["vp"].process, data("gaussian")
    run, errors = ddim_round_trip("gaussian", solvers.ddim), []
    for n in (100, 200):
        times = log_snr_times(process, n)
        errors.append(np.max(np.abs(run(process, x, times) - x)))
    assert errors[0] > 0.05
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.2)


@functools.partial(jax.jit, static_argnums=4)
def inverted_step(process, x, t, s, iterations):
    process = at_times(process, t, s)
    solver = solvers.ddim_inversion(MODELS["gaussian"](process), process, iterations=iterations)
    return solver.step(jax.random.key(0), solver.init(x, t), jnp.asarray(t), jnp.asarray(s)).x


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("process", SMOOTH)
def test_a_step_of_ddim_undoes_its_inversion_exactly(process):
    """On one step of any length, against the published step of DDIM, as the iterations converge."""
    row, x = PROCESSES[process], data("gaussian").astype(float)
    model, errors = gaussian_x0(row.scales), []
    for iterations in (1, 2, 4, 40):
        noisier = np.asarray(inverted_step(one_of(process), x, 0.1, 0.25, iterations))
        (a_t, sd_t, _, _), (a_s, sd_s, _, _) = row.scales(0.1), row.scales(0.25)
        x0 = model(noisier, 0.25)
        step = a_t * x0 + sd_t * (noisier - a_s * x0) / sd_s
        errors.append(np.max(np.abs(step - x)))
    assert errors[0] > errors[1] > errors[2] > errors[3]
    assert errors[-1] < 1e-9


def test_inversion_never_evaluates_the_model_at_zero_noise():
    """From t = 0, where VP's σ is 0: all evaluations are at the later time, as many as set."""
    process, seen = PROCESSES["vp"].process, []

    def model(x, t):
        jax.debug.callback(lambda t: seen.append(float(t)), t)
        return MODELS["gaussian"](process)(x, t)

    @jax.jit
    def run(x, times):
        solver = solvers.ddim_inversion(model, process, iterations=2)
        return jaxdiff.sample(jax.random.key(0), solver, x, times)

    end = run(np.ones((1, 2), np.float32), np.float32([0.0, 0.25, 0.5]))
    jax.block_until_ready(end)
    jax.effects_barrier()
    chex.assert_tree_all_finite(end)
    assert sorted(seen) == [0.25, 0.25, 0.5, 0.5]


def test_inversion_without_iterations_is_refused():
    process = PROCESSES["vp"].process
    with pytest.raises(InputError, match="iterations must be a positive integer, got 0"):
        solvers.ddim_inversion(MODELS["gaussian"](process), process, iterations=0)


# Paths between codes

interpolate = jax.jit(latents.interpolate)


def test_interpolation_follows_the_great_circle_at_constant_speed():
    """In the plane of the codes, by angles of w θ; the norm of codes of equal norm is preserved."""
    rng, weights = np.random.default_rng(0), np.linspace(0, 1, 7)
    z0, z1 = rng.normal(size=(2, 5, 4, 3))
    z1 *= np.linalg.norm(z0, axis=(1, 2), keepdims=True) / np.linalg.norm(
        z1, axis=(1, 2), keepdims=True
    )
    path = np.asarray(interpolate(*(np.float32(part) for part in (z0, z1, weights))))
    assert path.shape == (7, 5, 4, 3)
    np.testing.assert_allclose(path[[0, -1]], [z0, z1], atol=1e-5)
    flat = path.reshape(7, 5, 12)
    norms = np.linalg.norm(flat, axis=2)
    np.testing.assert_allclose(norms, np.broadcast_to(norms[0], norms.shape), rtol=1e-5)
    units = flat / norms[..., None]
    angles = np.arccos(np.clip(np.sum(units * units[:1], -1), -1, 1))
    np.testing.assert_allclose(angles, weights[:, None] * angles[-1], atol=1e-3)
    flat_ends = np.stack([z0, z1]).reshape(2, 5, 12)
    for row in range(5):  # and the result lies in their plane
        assert (
            np.linalg.matrix_rank(np.concatenate([flat[:, row], flat_ends[:, row]]), tol=1e-4) == 2
        )


def test_interpolation_preserves_the_distribution_of_independent_codes():
    """Two draws of N(0, I) mix to N(0, I), up to the little by which their norms differ."""
    z0, z1 = np.random.default_rng(0).normal(size=(2, 200, 3000)).astype(np.float32)
    middle = np.asarray(interpolate(z0, z1, np.float32([0.5]))[0])
    assert np.var(middle) == pytest.approx(1, abs=5 * np.sqrt(2 / 600_000) + 1 / 3000)
    assert np.var(0.5 * (z0 + z1)) == pytest.approx(0.5, abs=0.01)


def test_parallel_and_opposite_codes_mix_linearly():
    z, weights = np.float32([[3.0, -4.0]]), np.float32([0.0, 0.25, 1.0, 1.5])
    for factor in (1.0, 2.0, -1.0):
        expected = (1 - weights + factor * weights)[:, None, None] * z[None]
        path = interpolate(z, np.float32(factor) * z, weights)
        np.testing.assert_allclose(path, expected, atol=1e-5)
    slopes = jax.jit(jax.jacobian(latents.interpolate))
    chex.assert_tree_all_finite([interpolate(z, 0 * z, weights)])
    chex.assert_tree_all_finite([slopes(a, z, weights) for a in (z, -z, 0 * z)])


def test_codes_of_different_shapes_are_refused():
    z = jnp.ones((2, 3))
    for args in ((z, z[:1], jnp.ones(2)), (z, z, jnp.ones(()))):
        with pytest.raises(InputError, match="z0 and z1 must be batches of the same shape"):
            latents.interpolate(*args)
