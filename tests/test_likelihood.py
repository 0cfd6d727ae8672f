"""Log-likelihoods by the ODE with the exact divergence: closed forms, accuracy, gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_likelihoods import T_MIN, data_of, run
from one_program import one_of
from process_table import PROCESSES, SMOOTH
from solver_samples import slope

from jaxdiff import oracles
from jaxdiff.likelihood import log_likelihood
from jaxdiff.typing import InputError

pytestmark = pytest.mark.usefixtures("nan_where_short")

# Against closed forms


@pytest.mark.parametrize(
    ("kind", "dim", "process"),
    [
        *(("mixture", 2, name) for name in SMOOTH),
        pytest.param("mixture", 64, "vp", marks=pytest.mark.slow),
        pytest.param("gaussian", 64, "ve", marks=pytest.mark.slow),
    ],
)
def test_log_likelihood_matches_the_closed_form(kind, dim, process):
    """To 1e-4 nats per dimension with the exact divergence at rtol = 1e-5; the code as well."""
    row, data = PROCESSES[process], data_of(kind, dim)
    x = data.draw(24).astype(np.float32)
    got = run(kind, dim, one_of(process) if (kind, dim) == ("mixture", 2) else row.process, x)
    expected, latent = data.log_prob(x.astype(float), row)
    assert got.log_prob.shape == (1, 24)
    np.testing.assert_allclose(got.log_prob[0] / dim, expected / dim, atol=1e-4)
    np.testing.assert_allclose(got.latent, data.image(latent), atol=2e-4 * row.scales(1.0).sigma)


@pytest.mark.parametrize("process", [name for name in PROCESSES if name not in SMOOTH])
def test_other_processes_match_their_closed_form_too(process):
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


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_on_a_fixed_grid_the_order_is_five_and_rows_are_independent():
    row, data, errors = PROCESSES["vp"], data_of("gaussian", 2), []
    x, counts = data.draw(8), np.array([16, 36])
    expected, _ = data.log_prob(x, row)
    solve = jax.jit(
        lambda process, x, times: log_likelihood(
            jax.random.key(0), data.model(process), process, x, times=times
        )
    )
    for n in counts:
        # even in the logarithm of time, in which the flow is smooth
        times = np.geomspace(T_MIN, 1.0, n + 1)
        got = solve(row.process, x, times)
        errors.append(np.max(np.abs(got.log_prob - expected)))
    among_others = np.where(np.arange(8)[:, None] == 3, x, 2 * x[::-1])
    alone = solve(row.process, among_others, times)
    np.testing.assert_allclose(alone.log_prob[3], got.log_prob[3], rtol=1e-12)
    assert np.all(np.abs(np.delete(alone.log_prob - got.log_prob, 3)) > 1e-3)
    assert slope(counts, errors) == pytest.approx(5, abs=0.7)
    assert errors[-1] < 1e-4


# Uses


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_gradients_match_the_score_and_the_closed_form():
    """In x: −C⁻¹(x − m) of the model's Gaussian distribution; likewise in the mean of the data."""
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

    def exact(x, m):  # the prior, carried back by x ↦ αm + (std/std_1)(z − α_1 m)
        z = a_1 * m + std_1 / std * (x - alpha * m)
        return -0.5 * (z / sd_1) ** 2 + np.log(std_1 / std / sd_1 / np.sqrt(2 * np.pi))

    x, h = 1.3, 1e-5
    value, (in_x, in_m) = log_prob(jnp.array([x]), mean)
    assert float(value) == pytest.approx(exact(x, mean), abs=1e-6)
    assert float(in_x[0]) == pytest.approx(
        (exact(x + h, mean) - exact(x - h, mean)) / 2 / h, abs=1e-5
    )
    assert float(in_m) == pytest.approx((exact(x, mean + h) - exact(x, mean - h)) / 2 / h, abs=1e-5)


# Invalid arguments


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"t_min": 1.0}, r"t_min must be in \[0, 1\), got 1.0"),
        ({"t_min": -0.1}, "t_min must be in"),
        ({"times": [0.1, 0.5]}, "times must increase strictly and end at 1"),
        ({"times": [0.5, 0.1, 1.0]}, "times must increase strictly and end at 1"),
        ({"times": [1.0]}, "vector of at least two times"),
        ({"num_probes": 0}, "num_probes must be a positive integer, got 0"),
        ({"num_probes": 1, "probe": "cauchy"}, "probe must be one of"),
        ({"probe": "cauchy"}, "probe must be one of"),
        ({"method": "euler"}, "method must be one of tsit5, dopri5, got 'euler'"),
    ],
)
def test_invalid_options_are_refused(options, message):
    process = PROCESSES["vp"].process
    with pytest.raises(InputError, match=message):
        log_likelihood(
            jax.random.key(0), data_of("gaussian", 2).model(process), process, jnp.ones((1, 2)),
            **options,
        )  # fmt: skip
