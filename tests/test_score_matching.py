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
from one_program import one_of
from process_table import PROCESSES, exact_scales

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


@functools.cache
def data(n=N, seed=0):
    rng = np.random.default_rng(seed)
    return rng.multivariate_normal(MEAN, COV, n).astype(np.float32)


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


DIRECTION = np.array([[1.0, -0.5, 0.3], [-0.5, 0.2, 0.1], [0.3, 0.1, -0.7]])


@jax.jit
def with_slopes(theta, x):
    """Every loss, and its derivative when A moves along DIRECTION, of each example."""
    a, b = theta

    def every(h):
        score = linear((a + h * jnp.asarray(DIRECTION, jnp.float32), b))
        return {
            "esm": losses.esm(score, true_score, x),
            "ism": losses.ism(score, x),
            "ssm": losses.ssm(jax.random.key(2), score, x),
            "fd_ssm": losses.fd_ssm(jax.random.key(2), score, x, step=0.1),
            **{kind: sliced(jax.random.key(1), score, x) for kind, sliced in SLICES.items()},
        }

    return jax.jvp(every, (0.0,), (1.0,))


@functools.cache
def losses_of(theta):
    return jax.device_get(with_slopes(tuple(map(np.float32, THETAS[theta])), data()))


@every_theta
def test_explicit_score_matching_matches_its_closed_form(theta):
    assert_mean(losses_of(theta)[0]["esm"], explicit(THETAS[theta]))


@every_theta
def test_implicit_differs_by_half_the_fisher_information(theta):
    fisher = np.trace(np.linalg.inv(COV))
    assert_mean(losses_of(theta)[0]["ism"], explicit(THETAS[theta]) - 0.5 * fisher)


@every_theta
@pytest.mark.parametrize("kind", SLICES)
def test_sliced_equals_implicit(theta, kind):
    found, _ = losses_of(theta)
    assert_mean(found[kind] - found["ism"], 0.0)


@every_theta
@pytest.mark.parametrize("loss", ["esm", "ism", "ssm", "fd_ssm"])
def test_gradients_of_implicit_and_sliced_are_those_of_explicit(theta, loss):
    """∂J_ESM/∂A = AC − I + Aee' symmetrised; one direction of A is enough to distinguish them."""
    a, b = THETAS[theta]
    moment = COV + np.outer(MEAN - b, MEAN - b)
    expected = np.trace(DIRECTION @ (0.5 * (a @ moment + moment @ a) - np.eye(3)))
    assert_mean(losses_of(theta)[1][loss], expected)


def test_variance_reduction_reduces_variance():
    """By hand at x: Var ½(v·s)² > 0 = Var of ½‖s‖², and for Rademacher v a diagonal A is exact."""

    @jax.jit
    def sliced(x):
        ssm = functools.partial(losses.ssm, jax.random.key(0), linear(THETAS["isotropic"]), x)
        return ssm(), ssm(variance_reduction=True)

    plain, reduced = jax.device_get(sliced(np.ones((4096, 3), np.float32)))
    np.testing.assert_allclose(reduced, 0.5 * 3 * 0.49 - 2.1, rtol=1e-5)
    # (v·s)² for s = −0.7(1, 1, 1) is 0.49·9 with probability ¼ and 0.49 with ¾.
    variance = 0.25 * 0.49**2 * (0.25 * 81 + 0.75 - 9)
    assert np.var(plain) == pytest.approx(variance, rel=0.15)


def test_unit_probes_would_give_one_dth():
    """Probes of the sphere have length √D: vᵀ∇s v = −a‖v‖² is exact for s = −ax."""
    x = jnp.zeros((5, 3, 2, 1))
    got = losses.ssm(jax.random.key(0), lambda y: -0.7 * y, x, probe="sphere")
    np.testing.assert_allclose(got, -0.7 * 6, rtol=1e-5)


def test_finite_differences_have_a_second_order_error():
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

    @jax.jit
    def both(x):
        models = score, linear(THETAS["skewed"])
        return [(losses.ism(m, x), losses.ssm(jax.random.key(0), m, x)) for m in models]

    for found, expected in zip(*both(data(64)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@jax.jit
def denoised(theta, process, x0, t):
    """The loss, and its derivative when A moves along DIRECTION, of each example."""

    def loss(h):
        model = linear((theta[0] + h * jnp.asarray(DIRECTION, jnp.float32), theta[1]))
        score_fn = lambda x, t: model(x)  # noqa: E731
        return losses.dsm(jax.random.key(0), score_fn, process, x0, jnp.full(len(x0), t))

    return jax.jvp(loss, (0.0,), (1.0,))


@every_theta
@pytest.mark.parametrize("name", PROCESSES)
def test_denoising_matches_explicit_score_matching_of_noisy_data(theta, name):
    """At one t: x_t ~ N(αm, S), S = α²C + σ²I. J_DSM − J_ESM = ½(D/σ² − tr S⁻¹) (Vincent 2011).

    The slope ∂J_DSM/∂A is that of J_ESM, ½(AM + MA) − I with M = S + ee'.
    """
    t, (a, b) = 0.4, THETAS[theta]
    alpha, sigma = exact_scales(name, np.array(t))
    noisy = alpha**2 * COV + sigma**2 * np.eye(3)
    moment = noisy + np.outer(alpha * MEAN - b, alpha * MEAN - b)
    fisher = np.trace(np.linalg.inv(noisy))
    explicit_loss = 0.5 * (np.trace(a @ moment @ a) - 2 * np.trace(a) + fisher)
    slope = np.trace(DIRECTION @ (0.5 * (a @ moment + moment @ a) - np.eye(3)))
    value, moved = denoised(tuple(map(np.float32, (a, b))), one_of(name), data(), t)
    assert_mean(value, explicit_loss + 0.5 * (3 / sigma**2 - fisher))
    assert_mean(moved, slope)


def test_the_ncsn_loss_averages_over_noise_scales():
    """λ = σ_i²: the mean over i of ½σ_i²[tr(A M_i A) − 2 tr A] + 3/2, M_i = C + σ_i² + ee'."""
    sigmas, (a, b) = np.array([0.2, 0.7, 2.0]), THETAS["skewed"]
    ladder = DiscreteVE.from_sigmas(jnp.array(sigmas.tolist()))
    stratified = jax.jit(losses.times.stratified, static_argnums=1, static_argnames="num_steps")
    t, _ = stratified(jax.random.key(0), 3 * (N // 3), num_steps=3)
    model, weight = linear((a, b)), functools.partial(losses.weights.eps, target="score")
    x0 = data(len(t))
    dsm = functools.partial(losses.dsm, jax.random.key(2), lambda x, t: model(x), weight_fn=weight)
    found = jax.jit(dsm)(ladder, x0, t)
    e = np.outer(MEAN - b, MEAN - b)
    by_scale = [
        0.5 * s**2 * (np.trace(a @ (COV + s**2 * np.eye(3) + e) @ a) - 2 * np.trace(a)) + 1.5
        for s in sigmas
    ]
    assert_mean(found, np.mean(by_scale))


def test_denoising_weighted_by_sigma2_is_the_error_in_the_noise():
    """λ = σ²: σ²·½‖s + ε/σ‖² = ½‖σs + ε‖², the loss of NCSN, half of that on ε."""
    t, x0, key = np.linspace(0.1, 1.0, 64, dtype=np.float32), data(64), jax.random.key(0)
    weight = functools.partial(losses.weights.eps, target="score")

    @jax.jit
    def run(x0, t):
        model = lambda x, t: linear(THETAS["isotropic"])(x)  # noqa: E731
        got = losses.dsm(key, model, VE(), x0, t, weight_fn=weight)
        return got, jax.random.normal(key, x0.shape)

    got, eps = jax.device_get(run(x0, t))
    a, b = THETAS["isotropic"]
    sigma = exact_scales("ve", t)[1][:, None]
    score = -(x0 + sigma * eps - b) @ a
    expected = 0.5 * np.sum((sigma * score + eps) ** 2, axis=1)
    np.testing.assert_allclose(got, expected, rtol=1e-4)


def test_invalid_probes_are_refused():
    with pytest.raises(InputError, match="rademacher, gaussian, sphere, coordinate, got 'cube'"):
        losses.ssm(jax.random.key(0), lambda x: x, jnp.ones((1, 2)), probe="cube")
    with pytest.raises(InputError, match="num_probes must be a positive integer, got 0"):
        losses.fd_ssm(jax.random.key(0), lambda x: x, jnp.ones((1, 2)), num_probes=0)
