"""Score matching on Gaussian data with linear models, where every constant is known.

Data N(m, C) and the model s(x) = −A(x − b), with A symmetric. By hand, with e = m − b,

    E‖s‖² = tr(A C A) + ‖Ae‖²,    E tr ∇s = −tr A,    E‖∇log p‖² = tr C⁻¹,
    J_ESM = ½[tr(A C A) − 2 tr A + tr C⁻¹ + ‖Ae‖²].
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tables import PROCESSES, exact_scales

from jaxdiff import losses
from jaxdiff.processes import VE, DiscreteVE
from jaxdiff.typing import InputError

MEAN = np.array([0.5, -1.0, 0.2])
COV = np.array([[1.0, 0.4, 0.1], [0.4, 0.8, -0.2], [0.1, -0.2, 0.6]])
THETAS = {
    "exact": (np.linalg.inv(COV), MEAN),
    "isotropic": (0.7 * np.eye(3), np.zeros(3)),
    "skewed": (np.array([[2.0, 0.3, 0.0], [0.3, 0.5, -0.4], [0.0, -0.4, 1.2]]), np.ones(3)),
}
N = 20_000
every_theta = pytest.mark.parametrize("theta", THETAS)
SLICES = {
    f"{probe}{'_vr' if vr else ''}": functools.partial(
        losses.ssm, probe=probe, variance_reduction=vr, num_probes=2
    )
    for probe in ("rademacher", "gaussian", "sphere")
    for vr in (False, True)
}


def data(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.multivariate_normal(MEAN, COV, n), jnp.float32)


def linear(theta):
    a, b = (jnp.asarray(p, jnp.float32) for p in theta)
    return lambda x: -(x - b[None]) @ a


def true_score(x):
    return linear((np.linalg.inv(COV), MEAN))(x)


def explicit(theta):
    """J_ESM by hand, in float64 numpy."""
    a, b = theta
    spread = np.trace(a @ COV @ a) - 2 * np.trace(a) + np.trace(np.linalg.inv(COV))
    return 0.5 * (spread + np.sum((a @ (MEAN - b)) ** 2))


def assert_mean(values, expected, z=5.0):
    values = np.asarray(values, np.float64)
    error = values.std() / np.sqrt(len(values))
    assert abs(values.mean() - expected) <= z * error + 1e-4 * (1 + abs(expected))


@every_theta
def test_explicit_score_matching_is_its_closed_form(theta):
    theta = THETAS[theta]
    assert_mean(losses.esm(linear(theta), true_score, data()), explicit(theta))


@every_theta
def test_implicit_differs_by_half_the_fisher_information(theta):
    theta = THETAS[theta]
    fisher = np.trace(np.linalg.inv(COV))
    assert_mean(losses.ism(linear(theta), data()), explicit(theta) - 0.5 * fisher)


@every_theta
@pytest.mark.parametrize("kind", SLICES)
def test_sliced_differs_from_implicit_by_nothing(theta, kind):
    model = linear(THETAS[theta])
    sliced = SLICES[kind](jax.random.key(1), model, data())
    assert_mean(sliced - losses.ism(model, data()), 0.0)


@every_theta
def test_gradients_of_implicit_and_sliced_are_those_of_explicit(theta):
    """∂J_ESM/∂A = AC − I + Aee' symmetrised; one direction of A is enough to tell them apart."""
    a, b = THETAS[theta]
    away = MEAN - b
    direction = np.array([[1.0, -0.5, 0.3], [-0.5, 0.2, 0.1], [0.3, 0.1, -0.7]])
    moment = COV + np.outer(away, away)
    expected = np.trace(direction @ (0.5 * (a @ moment + moment @ a) - np.eye(3)))
    x = data()

    def along(loss):
        """Derivative of each example's loss when A moves along ``direction``."""
        shift = jnp.asarray(direction, jnp.float32)
        base = jnp.asarray(a, jnp.float32)
        centre = jnp.asarray(b, jnp.float32)
        return jax.jvp(
            lambda h: loss(lambda y: -(y - centre[None]) @ (base + h * shift)), (0.0,), (1.0,)
        )[1]

    assert_mean(along(lambda s: losses.esm(s, true_score, x)), expected)
    assert_mean(along(lambda s: losses.ism(s, x)), expected)
    assert_mean(along(lambda s: losses.ssm(jax.random.key(2), s, x)), expected)
    assert_mean(along(lambda s: losses.fd_ssm(jax.random.key(2), s, x, step=0.1)), expected)


def test_variance_reduction_reduces_variance():
    """By hand at x: Var ½(v·s)² > 0 = Var of ½‖s‖², and for Rademacher v a diagonal A is exact."""
    model, x = linear(THETAS["isotropic"]), jnp.ones((4096, 3))
    plain = losses.ssm(jax.random.key(0), model, x)
    reduced = losses.ssm(jax.random.key(0), model, x, variance_reduction=True)
    np.testing.assert_allclose(reduced, 0.5 * 3 * 0.49 - 2.1, rtol=1e-5)
    # (v·s)² for s = −0.7(1, 1, 1) is 0.49·9 with probability ¼ and 0.49 with ¾.
    variance = 0.25 * 0.49**2 * (0.25 * 81 + 0.75 - 9)
    assert np.var(plain) == pytest.approx(variance, rel=0.15)


def test_unit_probes_would_be_one_dth():
    """Probes of the sphere have length √D: vᵀ∇s v = −a‖v‖² is exact for s = −ax."""
    x = jnp.zeros((5, 3, 2, 1))
    got = losses.ssm(jax.random.key(0), lambda y: -0.7 * y, x, probe="sphere")
    np.testing.assert_allclose(got, -0.7 * 6, rtol=1e-5)


def test_finite_differences_miss_by_the_second_order():
    """s = −x³ in one dimension: [s(x+h) − s(x−h)]/2h = −3x² − h², and the mean is −x³ − 3xh²."""
    x = jnp.array([[0.5], [1.0]])
    for h in (0.05, 0.1, 0.4):
        got = losses.fd_ssm(jax.random.key(0), lambda y: -(y**3), x, step=h)
        point = np.array([0.5, 1.0])
        expected = 0.5 * (point**3 + 3 * point * h**2) ** 2 - 3 * point**2 - h**2
        np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_an_energy_model_is_fitted_through_its_gradient():
    """E(x) = ½x'Ax − x'Ab has the score of the linear model, and the same losses."""
    a, b = (jnp.asarray(p, jnp.float32) for p in THETAS["skewed"])

    def score(x):
        return -jax.vmap(jax.grad(lambda y: 0.5 * y @ a @ y - y @ a @ b))(x)

    x, key = data(64), jax.random.key(0)
    model = linear(THETAS["skewed"])
    np.testing.assert_allclose(losses.ism(score, x), losses.ism(model, x), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        losses.ssm(key, score, x), losses.ssm(key, model, x), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", PROCESSES)
def test_denoising_differs_from_explicit_by_the_constant_of_vincent(name):
    """At one t: x_t ~ N(αm, α²C + σ²I), and J_DSM − J_ESM = ½(D/σ² − tr(α²C + σ²I)⁻¹)."""
    process, t = PROCESSES[name], 0.4
    alpha, sigma = float(process.alpha(t)), float(process.sigma(t))
    noisy_cov = alpha**2 * COV + sigma**2 * np.eye(3)
    a, b = np.linalg.inv(COV + np.eye(3)), np.array([0.1, 0.0, -0.3])
    away = alpha * MEAN - b
    matched = np.trace(a @ noisy_cov @ a) - 2 * np.trace(a) + np.trace(np.linalg.inv(noisy_cov))
    explicit_loss = 0.5 * (matched + np.sum((a @ away) ** 2))
    constant = 0.5 * (3 / sigma**2 - np.trace(np.linalg.inv(noisy_cov)))
    model = linear((a, b))
    times = jnp.full(N, t)
    got = losses.dsm(jax.random.key(0), lambda x, t: model(x), process, data(), times)
    assert_mean(got, explicit_loss + constant)


@every_theta
@pytest.mark.parametrize("name", ["vp", "subvp", "ve"])
def test_denoising_and_its_slope_are_explicit_ones_of_noisy_data_for_every_theta(theta, name):
    """J_DSM − J_ESM = ½(D/σ² − tr S⁻¹) and ∂J_DSM/∂A = ½(AM + MA) − I, M = S + ee', S of x_t."""
    process, t = PROCESSES[name], 0.4
    alpha, sigma = exact_scales(name, np.array(t))
    noisy, (a, b) = alpha**2 * COV + sigma**2 * np.eye(3), THETAS[theta]
    moment = noisy + np.outer(alpha * MEAN - b, alpha * MEAN - b)
    matched = 0.5 * (np.trace(a @ moment @ a) - 2 * np.trace(a)) + 1.5 / sigma**2
    direction = np.array([[1.0, -0.5, 0.3], [-0.5, 0.2, 0.1], [0.3, 0.1, -0.7]])
    slope = np.trace(direction @ (0.5 * (a @ moment + moment @ a) - np.eye(3)))

    def loss(h):
        model = linear((jnp.asarray(a + 0.0, jnp.float32) + h * jnp.asarray(direction), b))
        return losses.dsm(jax.random.key(1), lambda x, t: model(x), process, data(), jnp.full(N, t))

    value, moved = jax.jvp(loss, (0.0,), (1.0,))
    assert_mean(value, matched)
    assert_mean(moved, slope)


def test_ladder_of_ncsn_averages_its_rungs():
    """λ = σ_i²: the mean over i of ½σ_i²[tr(A M_i A) − 2 tr A] + 3/2, M_i = C + σ_i² + ee'."""
    sigmas, (a, b) = np.array([0.2, 0.7, 2.0]), THETAS["skewed"]
    ladder = DiscreteVE.from_sigmas(jnp.array(sigmas.tolist()))
    t, _ = losses.times.stratified(jax.random.key(0), 3 * (N // 3), num_steps=3)
    model, weight = linear((a, b)), functools.partial(losses.weights.eps, target="score")
    x0 = data(len(t))
    found = losses.dsm(jax.random.key(2), lambda x, t: model(x), ladder, x0, t, weight_fn=weight)
    e = np.outer(MEAN - b, MEAN - b)
    rungs = [
        0.5 * s**2 * (np.trace(a @ (COV + s**2 * np.eye(3) + e) @ a) - 2 * np.trace(a)) + 1.5
        for s in sigmas
    ]
    assert_mean(found, np.mean(rungs))


def test_denoising_weighted_by_sigma2_is_the_error_in_the_noise():
    """λ = σ²: σ²·½‖s + ε/σ‖² = ½‖σs + ε‖², the loss of NCSN, half of the one on ε."""
    process, t = VE(), jnp.linspace(0.1, 1.0, 64)
    x0, key = data(64), jax.random.key(0)
    model = linear(THETAS["isotropic"])
    weight = functools.partial(losses.weights.eps, target="score")
    got = losses.dsm(key, lambda x, t: model(x), process, x0, t, weight_fn=weight)
    eps = np.asarray(jax.random.normal(key, x0.shape))
    sigma = np.asarray(process.sigma(t))[:, None]
    x_t = np.asarray(x0) + sigma * eps
    expected = 0.5 * np.sum((sigma * np.asarray(model(jnp.asarray(x_t))) + eps) ** 2, axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_losses_take_events_of_any_rank_under_jit_and_a_second_gradient():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2, 3, 1)), jnp.float32)

    def total(w):
        def model(y):
            return jnp.tanh(w * y)

        every = [
            losses.ism(model, x),
            losses.ssm(jax.random.key(0), model, x),
            losses.fd_ssm(jax.random.key(0), model, x),
            losses.esm(model, lambda y: -y, x),
        ]
        assert all(loss.shape == (4,) for loss in every)
        return sum(jnp.sum(loss) for loss in every)

    slope, bend = jax.jit(jax.grad(total))(0.3), jax.jit(jax.grad(jax.grad(total)))(0.3)
    h = 1e-2
    around = [float(total(0.3 + k * h)) for k in (-1, 0, 1)]
    assert float(slope) == pytest.approx((around[2] - around[0]) / (2 * h), rel=1e-2)
    assert float(bend) == pytest.approx((around[2] - 2 * around[1] + around[0]) / h**2, rel=0.1)


def test_probes_that_do_not_exist_are_refused():
    with pytest.raises(InputError, match="rademacher, gaussian, sphere, coordinate, got 'cube'"):
        losses.ssm(jax.random.key(0), lambda x: x, jnp.ones((1, 2)), probe="cube")
    with pytest.raises(InputError, match="num_probes is at least 1, got 0"):
        losses.fd_ssm(jax.random.key(0), lambda x: x, jnp.ones((1, 2)), num_probes=0)
