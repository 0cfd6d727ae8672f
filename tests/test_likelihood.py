"""Log-likelihoods by the ODE, against closed forms of the law that the ODE carries from the prior.

If the data's law is p_0 and the model exact, the flow from t_min to 1 carries p_{t_min} to p_1, and
the prior π to the model's own law. With z the end of the flow from x, in closed form here too,

    log p(x) = log p_{t_min}(x) + log π(z) − log p_1(z).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_finite
from one_program import one_of
from process_table import PROCESSES, SMOOTH, exact_law
from scipy import special
from solver_walks import assert_within, constant, slope

from jaxdiff import oracles
from jaxdiff.likelihood import log_likelihood, log_likelihood_by_probe
from jaxdiff.typing import InputError

T_MIN = 1e-3
EVENTS = {2: (2,), 64: (4, 4, 4)}
STDS = np.array([0.35, 0.6])  # across the line on which the modes lie, and along it


class Data:
    """A Gaussian, or a mixture of three on a line, in any dimension and any direction of it.

    In 2 dimensions the model sees vectors, in 64 images; here they are vectors all the same.
    """

    def __init__(self, kind, dim):
        rng = np.random.default_rng(dim)
        self.kind, self.dim = kind, dim
        self.axes = np.linalg.qr(rng.normal(size=(dim, dim)))[0]  # columns
        self.mean = rng.normal(size=dim)
        self.variances = rng.uniform(0.05, 1.5, size=dim)
        self.weights, self.along = np.array([0.2, 0.5, 0.3]), np.array([-1.5, 0.2, 1.1])
        if kind == "mixture":
            self.variances = np.full(dim, 0.09)

    def model(self, process):
        if self.kind == "gaussian":
            cov = self.axes * self.variances @ self.axes.T
            return oracles.gaussian(process, constant(self.image(self.mean)), constant(cov))
        means = self.image(self.mean + self.along[:, None] * self.axes[:, 0])
        stds = np.full(3, np.sqrt(self.variances[0]))
        return oracles.mixture(process, *map(constant, (self.weights, means, stds)))

    def image(self, x):
        return x.reshape(*x.shape[:-1], *EVENTS[self.dim])

    def draw(self, n):
        rng = np.random.default_rng(1)
        white = rng.normal(size=(n, self.dim)) * np.sqrt(self.variances)
        if self.kind == "mixture":
            white[:, 0] += rng.choice(self.along, size=n, p=self.weights)
        return self.mean + white @ self.axes.T

    def along_axes(self, x, alpha):
        return (x - alpha * self.mean) @ self.axes

    def log_density(self, x, scales, t):
        """log p_t, one axis at a time: a Gaussian each, but for the first of a mixture."""
        alpha, sigma, _, _ = scales(t)
        y, variances = self.along_axes(x, alpha), alpha**2 * self.variances + sigma**2
        logs = -0.5 * (y**2 / variances + np.log(2 * np.pi * variances))
        if self.kind == "mixture":
            away = y[:, :1] - alpha * self.along
            each = -0.5 * (away**2 / variances[0] + np.log(2 * np.pi * variances[0]))
            logs[:, 0] = special.logsumexp(each, b=self.weights, axis=1)
        return logs.sum(1)

    def flow(self, x, scales, t, s):
        """Axis by axis y/√v is constant; along the modes it is the quantile that is."""
        (a_t, sd_t, _, _), (a_s, sd_s, _, _) = scales(t), scales(s)
        y = self.along_axes(x, a_t)
        moved = exact_law(scales, t, s, 0.0, self.variances, y, 0.0, churn=0.0)[0]
        if self.kind == "mixture":
            std_t, std_s = (np.hypot(a * self.variances[0] ** 0.5, sd)
                            for a, sd in ((a_t, sd_t), (a_s, sd_s)))  # fmt: skip
            target = special.ndtr((y[:, :1] - a_t * self.along) / std_t) @ self.weights
            low, high = np.full(len(x), -20 * std_s), np.full(len(x), 20 * std_s)
            for _ in range(80):
                middle = 0.5 * (low + high)
                reached = special.ndtr((middle[:, None] - a_s * self.along) / std_s) @ self.weights
                below = reached < target
                low, high = np.where(below, middle, low), np.where(below, high, middle)
            moved[:, 0] = middle
        return a_s * self.mean + moved @ self.axes.T

    def log_prob(self, x, row, t_min=T_MIN):
        """Of the law that the flow carries from the prior, and the latent code."""
        z = self.flow(x, row.scales, t_min, 1.0)
        std = row.scales(1.0).sigma
        prior = -0.5 * np.sum((z / std) ** 2 + np.log(2 * np.pi * std**2), axis=1)
        change = self.log_density(x, row.scales, t_min) - self.log_density(z, row.scales, 1.0)
        return change + prior, z


@functools.cache
def data_of(kind, dim):
    return Data(kind, dim)


@functools.cache
def jitted(kind, dim, **options):
    """``(process, key, x, rtol, t_min) -> LogLikelihood`` with one estimate a probe."""

    def run(process, key, x, rtol, t_min):
        model = data_of(kind, dim).model(process)
        return log_likelihood_by_probe(
            key, model, process, x, rtol=rtol, atol=rtol, t_min=t_min, **options
        )

    return jax.jit(run)


def run(kind, dim, process, x, *, rtol=1e-5, seed=0, num_probes=None, t_min=T_MIN, **options):
    x = data_of(kind, dim).image(np.asarray(x, jnp.result_type(float)))
    program = jitted(kind, dim, num_probes=num_probes, **options)
    return program(process, jax.random.key(seed), x, rtol, t_min)


# Against closed forms


@pytest.mark.parametrize("process", SMOOTH)
@pytest.mark.parametrize(
    ("kind", "dim"),
    [
        pytest.param("gaussian", 2, marks=pytest.mark.slow),
        pytest.param("gaussian", 64, marks=pytest.mark.slow),
        ("mixture", 2),
        ("mixture", 64),
    ],
)
def test_log_likelihood_is_the_closed_form(kind, dim, process):
    """To 1e-4 nats a dimension with the exact divergence at rtol = 1e-5, and the code with it."""
    row, data = PROCESSES[process], data_of(kind, dim)
    x = data.draw(24).astype(np.float32)
    got = run(kind, dim, one_of(process), x)
    expected, latent = data.log_prob(x.astype(float), row)
    assert got.log_prob.shape == (1, 24)
    np.testing.assert_allclose(got.log_prob[0] / dim, expected / dim, atol=1e-4)
    np.testing.assert_allclose(got.latent, data.image(latent), atol=2e-4 * row.scales(1.0).sigma)


@pytest.mark.parametrize("process", [name for name in PROCESSES if name not in SMOOTH])
def test_other_processes_have_their_closed_form_too(process):
    row, data = PROCESSES[process], data_of("mixture", 2)
    x = data.draw(24).astype(np.float32)
    got = run("mixture", 2, one_of(process), x, t_min=row.first_noise)
    expected, _ = data.log_prob(x.astype(float), row, row.first_noise)
    np.testing.assert_allclose(got.log_prob[0] / 2, expected / 2, atol=2e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_error_falls_with_the_tolerance():
    row, data, errors = PROCESSES["vp"], data_of("mixture", 2), []
    x, tolerances = data.draw(24), np.array([1e-4, 1e-6, 1e-8])
    expected, _ = data.log_prob(x, row)
    for rtol in tolerances:
        got = run("mixture", 2, row.process, x, rtol=rtol)
        errors.append(np.max(np.abs(got.log_prob[0] - expected)))
    assert np.all(errors < 50 * tolerances)
    assert slope(1 / tolerances, errors) == pytest.approx(1, abs=0.3)


@pytest.mark.usefixtures("x64")
def test_on_a_fixed_grid_the_order_is_five_and_rows_stand_alone():
    row, data, errors = PROCESSES["vp"], data_of("gaussian", 2), []
    x, counts = data.draw(8), np.array([16, 36])
    expected, _ = data.log_prob(x, row)
    solve = jax.jit(
        lambda process, x, times: log_likelihood(
            jax.random.key(0), data.model(process), process, x, times=times
        )
    )
    for n in counts:
        # even in the logarithm of time, which is smooth where the flow is
        times = np.geomspace(T_MIN, 1.0, n + 1)
        got = solve(row.process, x, times)
        errors.append(np.max(np.abs(got.log_prob - expected)))
    alone = solve(row.process, x[3:4], times)
    np.testing.assert_allclose(alone.log_prob, got.log_prob[3:4], rtol=1e-12)
    assert slope(counts, errors) == pytest.approx(5, abs=0.7)
    assert errors[-1] < 1e-4


# Probes


@pytest.mark.parametrize("probe", ["rademacher", pytest.param("gaussian", marks=pytest.mark.slow)])
def test_probes_are_unbiased_with_the_variance_that_theory_gives(probe):
    """On Gaussians every estimate is log p + vᵀMv − tr M, with M known.

    Along an eigenvector of the covariance y/√v is constant, so that the slope of the field
    integrates to ½ log of the growth of v/h²; M has these eigenvalues. The variance of a Rademacher
    probe is 2 Σ_{i≠j} M_ij², that of a Gaussian one 2‖M‖².
    """
    row, data, num_probes = PROCESSES["vp"], data_of("gaussian", 2), 4096
    x = data.draw(2)
    got = run("gaussian", 2, row.process, x, num_probes=num_probes, probe=probe)
    exact, _ = data.log_prob(x, row)
    (a_0, sd_0, _, _), (a_1, sd_1, _, _) = row.scales(T_MIN), row.scales(1.0)
    growth = (a_1**2 * data.variances + sd_1**2) / (a_0**2 * data.variances + sd_0**2)
    growth *= (a_0**2 + sd_0**2) / (a_1**2 + sd_1**2)
    matrix = data.axes * (0.5 * np.log(growth)) @ data.axes.T
    kept = matrix - np.diag(np.diag(matrix)) if probe == "rademacher" else matrix
    variance = 2 * np.sum(kept**2)
    samples = np.asarray(got.log_prob, np.float64)
    assert samples.shape == (num_probes, 2)
    assert_within(samples.mean(0), exact, np.sqrt(variance / num_probes), z=5, atol=1e-4)
    fourth = np.mean((samples - exact) ** 4, axis=0)
    spread = np.sqrt(np.maximum(fourth - variance**2, 1e-9) / num_probes)
    assert_within(samples.var(0), variance, spread, z=5, atol=1e-4)
    assert variance > 1e-2


def test_probes_are_unbiased_on_images_of_a_mixture():
    row, data = PROCESSES["vp"], data_of("mixture", 64)
    x = data.draw(8).astype(np.float32)
    exact, _ = data.log_prob(x.astype(float), row)
    each = np.asarray(run("mixture", 64, row.process, x, num_probes=128).log_prob, np.float64)
    error = each.std(0, ddof=1) / np.sqrt(128)
    assert_within(each.mean(0), exact, error, z=5)


def few_probes(process, x, seed):
    return np.asarray(run("gaussian", 2, process, x, num_probes=3, seed=seed).log_prob)


def test_probes_are_drawn_once_from_the_key():
    process, x = one_of("vp"), data_of("gaussian", 2).draw(3)
    one, same, other = (few_probes(process, x, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.max(np.abs(one - other)) > 0.01
    assert len(np.unique(one[:, 0])) > 1


def test_the_log_likelihood_is_the_mean_over_probes_and_other_numbers_never_another_trace():
    vp, x, traces = PROCESSES["vp"].process, data_of("gaussian", 2).draw(3), []

    @jax.jit
    def mean(process, key, x, rtol, t_min):
        traces.append(1)
        model = data_of("gaussian", 2).model(process)
        options = {"rtol": rtol, "atol": rtol, "t_min": t_min}
        return log_likelihood(key, model, process, x, num_probes=3, **options)

    found = mean(vp, jax.random.key(0), np.float32(x), 1e-5, T_MIN).log_prob
    np.testing.assert_allclose(found, few_probes(one_of("vp"), x, 0).mean(axis=0), rtol=1e-4)
    moved = jax.tree.map(lambda v: 1.1 * v, vp)
    mean(moved, jax.random.key(1), np.zeros((3, 2), np.float32), 1e-2, 1e-4)
    assert len(traces) == 1


# What it is used for


@pytest.mark.usefixtures("x64")
def test_gradients_are_the_score_and_the_slopes_of_the_closed_form():
    """In x: minus C⁻¹(x − m) of the model's law, a Gaussian; in the mean of the data: the same."""
    process, variance, mean = PROCESSES["vp"].process, 0.5, 0.7

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1))
    def log_prob(x, m):
        model = oracles.gaussian(process, jnp.full(1, m), jnp.full((1, 1), variance))
        got = log_likelihood(
            jax.random.key(0), model, process, x[None], t_min=T_MIN, rtol=1e-8, atol=1e-8
        )
        return got.log_prob[0]

    alpha, sigma, _, _ = PROCESSES["vp"].scales(T_MIN)
    a_1, sd_1, _, _ = PROCESSES["vp"].scales(1.0)
    std, std_1 = np.hypot(alpha * variance**0.5, sigma), np.hypot(a_1 * variance**0.5, sd_1)

    def law(x, m):  # the prior, carried back by x ↦ αm + (std/std_1)(z − α_1 m)
        z = a_1 * m + std_1 / std * (x - alpha * m)
        return -0.5 * (z / sd_1) ** 2 + np.log(std_1 / std / sd_1 / np.sqrt(2 * np.pi))

    x, h = 1.3, 1e-5
    value, (in_x, in_m) = log_prob(jnp.array([x]), mean)
    assert float(value) == pytest.approx(law(x, mean), abs=1e-6)
    assert float(in_x[0]) == pytest.approx((law(x + h, mean) - law(x - h, mean)) / 2 / h, abs=1e-5)
    assert float(in_m) == pytest.approx((law(x, mean + h) - law(x, mean - h)) / 2 / h, abs=1e-5)


@pytest.mark.parametrize("process", ["vp", "ve", "ve_348"])
def test_nothing_is_nan_at_either_end_of_time(process):
    x = np.float32([[0.0, 0.0], [4.0, -4.0], [1e-4, 1.0]])
    for t_min in (0.0, 1e-5):
        assert_finite(run("gaussian", 2, one_of(process), x, t_min=t_min, num_probes=3))


# Mistakes


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"t_min": 1.0}, r"t_min lies in \[0, 1\), got 1.0"),
        ({"t_min": -0.1}, "t_min lies in"),
        ({"times": [0.1, 0.5]}, "times increase strictly to 1"),
        ({"times": [0.5, 0.1, 1.0]}, "times increase strictly to 1"),
        ({"times": [1.0]}, "vector of at least two times"),
        ({"num_probes": 0}, "num_probes is at least 1, got 0"),
        ({"num_probes": 1, "probe": "cauchy"}, "probe is one of"),
        ({"probe": "cauchy"}, "probe is one of"),
        ({"method": "euler"}, "method is one of tsit5, dopri5, got 'euler'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, says):
    process = PROCESSES["vp"].process
    with pytest.raises(InputError, match=says):
        log_likelihood(
            jax.random.key(0), data_of("gaussian", 2).model(process), process, jnp.ones((1, 2)),
            **options,
        )  # fmt: skip
