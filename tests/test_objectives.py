"""The experiment that fits every objective: its distribution, its rows, its metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close
from quickly import first_is_quick

from experiments.studies.objectives import __main__ as command
from experiments.studies.objectives import rows
from experiments.studies.objectives.rows import LOWEST, MEANS, OBJECTIVES, STDS, WEIGHTS
from jaxdiff import oracles, processes
from jaxdiff.recipes import Config, build
from jaxdiff.recipes.diffusion import algorithm
from jaxdiff.train import BatchSlice, View


def log_density(x):
    """Log density of the mixture, in float64 numpy."""
    x, means, stds = (np.asarray(a, np.float64) for a in (x, MEANS, STDS))
    distance2 = np.sum((x[:, None] - means) ** 2, axis=2)
    parts = np.asarray(WEIGHTS, np.float64) / (2 * np.pi * stds**2) * np.exp(
        -0.5 * distance2 / stds**2
    )  # fmt: skip
    return np.log(np.sum(parts, axis=1))


def test_the_reference_score_is_the_gradient_of_the_log_density():
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
def test_a_row_has_a_loss_per_example_gradients_for_all_parameters_and_a_score(name):
    model = rows.model_of(name, steps=4, batch=6, learning_rate=1e-3)
    state = jax.eval_shape(algorithm(model).init, jax.random.key(0))
    params, x = state.players["model"].params, np.zeros((6, 2), np.float32)

    def mean_loss(params, key, carry):
        view = View({"model": params}, {"model": ()}, carry)
        loss_fn, part = model.objective.loss_fn, BatchSlice(jnp.arange(6), 6)
        values, aux = loss_fn(params, view, key, {"x": x}, part)
        assert values.shape == (6,)
        return jnp.mean(values), model.objective.update_carry(carry, aux)

    slopes, carry = jax.eval_shape(
        jax.grad(mean_loss, has_aux=True), params, jax.random.key(0), state.carry
    )
    assert jax.tree.structure(slopes) == jax.tree.structure(params)
    assert jax.tree.structure(carry) == jax.tree.structure(state.carry)
    field = jax.eval_shape(lambda params, x: rows.score(model, params, x), params, x)
    assert field.shape == (6, 2)


@pytest.mark.parametrize("process", ["VP", "SUBVP", "VE", "CHAIN", "CHAIN_VE"])
def test_score_of_a_noise_model_is_that_of_slightly_blurred_data(process):
    """x_t/α is the mixture with LOWEST² added to its variances, for which the oracle is exact."""
    config = Config(process=getattr(rows, process))
    forward = build.process(config)

    @jax.jit
    def both(key):
        x = rows.draw_data(key, 50)
        model = oracles.mixture(forward, WEIGHTS, MEANS, STDS)
        blurred = oracles.mixture(processes.VP(), WEIGHTS, MEANS, jnp.sqrt(STDS**2 + LOWEST**2))
        expected = -blurred(x, 0.0).eps / processes.VP().sigma(0.0)
        return rows.score_of(model, forward, x), expected

    found, expected = both(jax.random.key(1))
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-2)


def test_gradient_variance_matches_that_of_known_gradients():
    """Mean (3, 4), variance 1 in each of two: tr Cov/‖E g‖² = 2/25."""
    g = np.random.default_rng(0).normal((3.0, 4.0), size=(20_000, 2)).astype(np.float32)
    assert command._relative_variance(g) == pytest.approx(2 / 25, rel=0.05)
