"""The experiment that fits every objective: its law, its rows, its measures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close
from quickly import first_is_quick

from experiments.studies.objectives import __main__ as command
from experiments.studies.objectives import rows
from experiments.studies.objectives.rows import LOWEST, MEANS, OBJECTIVES, STDS, WEIGHTS
from jaxdiff import oracles


def log_density(x):
    """Of the mixture, in float64 numpy."""
    x, means, stds = (np.asarray(a, np.float64) for a in (x, MEANS, STDS))
    distance2 = np.sum((x[:, None] - means) ** 2, axis=2)
    parts = np.asarray(WEIGHTS, np.float64) / (2 * np.pi * stds**2) * np.exp(
        -0.5 * distance2 / stds**2
    )  # fmt: skip
    return np.log(np.sum(parts, axis=1))


def test_score_that_all_are_measured_by_is_the_slope_of_the_log_density():
    x, h = np.random.default_rng(0).normal(size=(50, 2)), 1e-5
    expected = np.stack(
        [(log_density(x + h * axis) - log_density(x - h * axis)) / (2 * h) for axis in np.eye(2)],
        axis=1,
    )
    found = jax.jit(rows.true_score)(np.float32(x))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_data_have_the_mean_of_the_mixture():
    x = jax.jit(rows.draw_data, static_argnums=1)(jax.random.key(0), 20_000)
    assert_mean_close(x, np.asarray(WEIGHTS) @ np.asarray(MEANS))


@pytest.mark.parametrize("name", first_is_quick(OBJECTIVES))
def test_a_row_gives_a_loss_per_example_slopes_for_all_its_parameters_and_a_score(name):
    row, key, x = OBJECTIVES[name], jax.random.key(0), np.zeros((6, 2), np.float32)
    params = jax.eval_shape(row.init, key)

    def mean_loss(params, state):
        values, state = row.loss(params, state, key, x)
        assert values.shape == (6,)
        return jnp.mean(values), state

    slopes, state = jax.eval_shape(jax.grad(mean_loss, has_aux=True), params, row.state)
    assert jax.tree.structure(slopes) == jax.tree.structure(params)
    assert jax.tree.structure(state) == jax.tree.structure(row.state)
    assert jax.eval_shape(row.score, params, x).shape == (6, 2)


@pytest.mark.parametrize("process", ["VP", "SUBVP", "VE", "CHAIN", "LADDER"])
def test_score_of_a_model_of_noise_is_that_of_data_a_little_blurred(process):
    """x_t/α is the mixture with LOWEST² added to its variances: the oracle has its score too."""
    forward = getattr(rows, process)

    @jax.jit
    def both(key):
        x = rows.draw_data(key, 50)
        model = oracles.mixture(forward, WEIGHTS, MEANS, STDS)
        blurred = oracles.mixture(rows.VP, WEIGHTS, MEANS, jnp.sqrt(STDS**2 + LOWEST**2))
        expected = -blurred(x, 0.0).eps / rows.VP.sigma(0.0)
        return rows._score(model, forward, x), expected

    found, expected = both(jax.random.key(1))
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)


def test_gradient_variance_is_that_of_known_gradients():
    """Mean (3, 4), variance 1 in each of two: tr Cov/‖E g‖² = 2/25."""
    g = np.random.default_rng(0).normal((3.0, 4.0), size=(20_000, 2)).astype(np.float32)
    assert command._relative_variance(g) == pytest.approx(2 / 25, rel=0.05)
