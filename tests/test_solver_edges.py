"""Edge cases of solvers: gradients in the process, and invalid options."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from process_table import as_float64, vp_scales
from solver_samples import gaussian_model, gaussian_model_1d, gaussian_x0
from solver_table import SOLVERS

import jaxdiff
from jaxdiff import schedules, solvers
from jaxdiff.processes import VP
from jaxdiff.typing import InputError

# Gradients

DIFFERENTIATED = [
    "reverse_diffusion", "sde_dpmpp_2m", "stochastic_heun", "unipc_2", "deis_3", "dpm_3", "rk4",
]  # fmt: skip


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "solver",
    [
        pytest.param(name, marks=[] if name == "deis_3" else pytest.mark.slow)
        for name in DIFFERENTIATED
    ],
)
def test_gradients_in_the_process_match_differences_of_samples(solver):
    """Through all times that a solver computes itself; and finite when sampling to σ = 0."""

    @jax.jit
    @jax.value_and_grad
    def end(process, times):
        made = SOLVERS[solver].make(gaussian_model_1d(process), process)
        return jnp.sum(jaxdiff.sample(jax.random.key(0), made, jnp.ones((2, 1)), times) ** 2)

    process, h = jax.device_get(as_float64(VP())), 1e-5
    times = np.array([0.9, 0.6, 0.3, 0.1, 1e-3])
    found = jax.tree.leaves(end(process, times)[1])
    for way, got in zip((VP(h, 0.0), VP(0.0, h)), found, strict=True):
        up, down = (
            jax.tree.map(lambda p, d, sign=sign: p + sign * d, process, way) for sign in (1, -1)
        )
        difference = float(end(up, times)[0] - end(down, times)[0]) / (2 * h)
        assert float(got) == pytest.approx(difference, rel=1e-5, abs=1e-7)
    for last in (0.0, 1e-5):
        chex.assert_tree_all_finite(end(process, np.array([1.0, 0.6, 0.3, 0.1, last])))


@pytest.mark.parametrize("make", [solvers.dpmpp_2m, solvers.euler_maruyama, solvers.ddim])
def test_gradients_in_the_amplitude_of_the_noise_are_finite(make):
    @jax.jit
    @jax.grad
    def slope(eta):
        made = make(gaussian_model_1d(VP()), VP(), eta=eta)
        return jnp.sum(jaxdiff.sample(jax.random.key(0), made, jnp.ones((2, 1)), times) ** 2)

    times = np.float32([1.0, 0.5, 1e-3])
    chex.assert_tree_all_finite([slope(0.0), slope(0.5), slope(1.0)])


def test_zero_churn_is_heun():
    """With γ = 0, or outside the noise levels where noise is added: exactly no noise."""
    x = np.random.default_rng(0).normal(size=(4, 1)).astype(np.float32)

    @functools.partial(jax.jit, static_argnums=0)
    def run(make, options):
        made, times = (
            make(gaussian_model_1d(VP()), VP(), **options),
            schedules.karras_times(VP(), 30),
        )
        return jaxdiff.sample(jax.random.key(1), made, x, times)

    plain = run(solvers.heun, {})
    for churn, sigma_min, sigma_max in ((0.0, 0.0, np.inf), (0.2, 1e3, 1e4)):
        options = {"churn": churn, "sigma_min": sigma_min, "sigma_max": sigma_max}
        np.testing.assert_allclose(run(solvers.stochastic_heun, options), plain, atol=2e-5)


# Options


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (solvers.stochastic_heun, {"churn": -0.5}, "churn must be finite and at least 0, got -0.5"),
        (
            solvers.stochastic_heun,
            {"noise_scale": -1.0},
            "noise_scale must be finite and at least 0",
        ),
        (
            solvers.stochastic_heun,
            {"sigma_min": 3.0, "sigma_max": 1.0},
            "must be less than sigma_max",
        ),
        (solvers.euler_maruyama, {"eta": -3.0}, "eta must be finite and at least 0, got -3.0"),
        (solvers.dpmpp_2m, {"eta": float("nan")}, "eta must be finite and at least 0, got nan"),
        (solvers.dpmpp_3m, {"eta": float("inf")}, "eta must be finite and at least 0, got inf"),
        (solvers.ddim, {"eta": "a"}, r"eta must be in \[0, 1\], got 'a'"),
        (solvers.ddim, {"eta": True}, r"eta must be in \[0, 1\], got True"),
        (solvers.euler_maruyama, {"eta": [0.5]}, r"at least 0, got \[0.5\]"),
    ],
)
def test_invalid_noise_amplitudes_are_refused(make, options, message):
    with pytest.raises(InputError, match=message):
        make(gaussian_model(VP()), VP(), **options)


@pytest.mark.parametrize("make", [solvers.ddim, solvers.euler_maruyama, solvers.dpmpp_2m])
@pytest.mark.parametrize("eta", [1, np.float16(0.5), np.ones(()), jnp.bfloat16(0.5)], ids=repr)
def test_amplitudes_may_be_numbers_of_any_type(make, eta):
    assert make(gaussian_model(VP()), VP(), eta=eta).draws_noise


def test_eulers_method_integrates_in_both_directions():
    """Its step towards the noise, by hand: x + [f x + ½ g² ε̂/σ](s − t)."""
    x, t, s = np.array([[0.5, -1.0]]), 0.3, 0.4
    solver = solvers.euler_maruyama(gaussian_model(VP()), VP(), eta=0.0)
    got = jaxdiff.sample(jax.random.key(0), solver, jnp.asarray(x, jnp.float32), jnp.array([t, s]))
    q = vp_scales(t)
    eps = (x - q.alpha * gaussian_x0(vp_scales)(x, t)) / q.sigma
    np.testing.assert_allclose(got, x + (q.f * x + 0.5 * q.g2 * eps / q.sigma) * (s - t), rtol=1e-5)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((1, 2), int), "x_init must be an array of floats, got int32"),
        (np.float32(1.0), r"x_init must be a batch of examples \[batch, ...\], got shape \(\)"),
        (np.ones(3, np.float32), r"a batch of examples .* got shape \(3,\)"),
        (np.ones((0, 2), np.float32), r"a batch of examples .* got shape \(0, 2\)"),
    ],
    ids=["integers", "a number", "a vector", "no example"],
)
def test_starts_that_are_not_a_batch_of_floats_are_refused(x, message):
    solver = solvers.ddim(gaussian_model(VP()), VP())
    with pytest.raises(InputError, match=message):
        jaxdiff.sample(jax.random.key(0), solver, x, jnp.array([1.0, 0.5]))


@pytest.mark.parametrize("solver", SOLVERS)
def test_solvers_that_draw_noise_only_run_towards_the_data(solver):
    """They solve the reverse SDE, which does not describe sampling in the other direction."""
    row, times = SOLVERS[solver], jnp.array([0.2, 0.6, 1.0])
    made = row.make(gaussian_model(VP()), VP())
    if row.deterministic:
        assert not made.draws_noise
        return
    for upward in (made, predictor_corrector(made)):
        with pytest.raises(InputError, match="times must decrease for a solver that draws noise"):
            jaxdiff.sample(jax.random.key(0), upward, jnp.ones((1, 2)), times)


def predictor_corrector(made):
    """A solver as the predictor, with a corrector that does nothing."""
    still = solvers.one_step(lambda key, x, t, s: x)
    return solvers.predictor_corrector(
        gaussian_model(VP()), VP(), predictor=lambda *_: made, corrector=lambda *_: still
    )
