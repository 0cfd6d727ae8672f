"""The pure step of training, against optax and closed forms by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from net_tools import any_params, normal, shapes_of
from players import loss_of
from tiny import tiny_config

from jaxdiff import recipes, train
from jaxdiff.recipes import Run, build
from jaxdiff.recipes.diffusion import assemble, fresh_state
from jaxdiff.train import averages


def quadratic(params, view, key, batch, part):
    """Loss with the gradient params − mean(x), and no randomness."""
    return 0.5 * jnp.sum((params["w"][None] - batch["x"]) ** 2, axis=1), ()


def test_a_step_of_gradient_descent_matches_the_formula():
    batch = {"x": jnp.array([[1.0, 2.0], [3.0, 4.0]])}
    turn = train.Turn("w", quadratic, optax.sgd(0.1), (averages.exponential(0.9),))
    init, step = train.alternate(lambda key: {"w": {"w": jnp.array([0.0, 1.0])}}, [turn])
    after, metrics = jax.jit(step)(init(jax.random.key(0)), batch)
    player = after.players["w"]
    gradient = np.array([0.0, 1.0]) - np.array([2.0, 3.0])
    np.testing.assert_allclose(player.params["w"], np.array([0.0, 1.0]) - 0.1 * gradient, rtol=1e-6)
    np.testing.assert_allclose(metrics["grad_norm"], np.hypot(*gradient), rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], 0.5 * np.mean([1 + 1, 9 + 9]), rtol=1e-6)
    # score_sde counts the update before it averages: (1 + 1)/(10 + 1) after the first
    averaged = 2 / 11 * np.array([0.0, 1.0]) + 9 / 11 * np.asarray(player.params["w"])
    np.testing.assert_allclose(player.averages[0]["w"], averaged, rtol=1e-6)
    assert int(after.step) == 1


def test_ema_follows_its_recursion_with_warm_up():
    params = np.sin(np.arange(40.0))
    average, expected = {"w": jnp.asarray(0.0)}, 0.0
    for k, value in enumerate(params):
        rule = averages.exponential(0.7)
        average = averages.update(average, {"w": jnp.asarray(value)}, rule(jnp.asarray(k)))
        d = min(0.7, (2 + k) / (11 + k))
        expected = d * expected + (1 - d) * value
    np.testing.assert_allclose(average["w"], expected, rtol=1e-5)


def test_ema_of_a_constant_forgets_its_start():
    average = {"w": jnp.asarray(1.0)}
    for k in range(60):
        rule = averages.exponential(0.9999)
        average = averages.update(average, {"w": jnp.asarray(0.0)}, rule(jnp.asarray(k)))
    # Without warm-up 0.9999^60 = 0.994 of the start would be left; ∏(2+k)/(11+k) leaves 10⁻¹⁰.
    assert float(average["w"]) < 1e-6


def rates(**options):
    config = recipes.from_dict({"optimizer": options, "training": {"num_steps": 100}})
    optimizer = build.optimizer(config)
    params = jnp.zeros(1)

    def step(state, _):
        # Adam's moments are exact from the start for a constant gradient: every update is −rate.
        update, state = optimizer.update(jnp.ones(1), state, params)
        return state, -update[0]

    return np.asarray(jax.jit(lambda: jax.lax.scan(step, optimizer.init(params), length=100))()[1])


def test_learning_rate_warms_up_and_decays_by_the_cosine():
    step = np.arange(100)
    expected = np.where(step < 20, 0.01 * step / 20, 0.005 * (1 + np.cos(np.pi * (step - 20) / 80)))
    moved = rates(learning_rate=0.01, schedule="cosine", warmup_steps=20)
    np.testing.assert_allclose(moved, expected, atol=2e-6)


def test_learning_rate_stays_constant_after_warm_up():
    expected = 0.01 * np.minimum(np.arange(100) / 20, 1)
    np.testing.assert_allclose(rates(learning_rate=0.01, warmup_steps=20), expected, atol=2e-6)


def test_gradients_are_clipped_by_their_global_norm():
    grads = {"a": jnp.array([30.0]), "b": jnp.array([40.0])}
    # With epsilon far above the gradient Adam divides by a constant, which reveals its input.
    config = recipes.from_dict(
        {"optimizer": {"clip_norm": 1.0, "epsilon": 1e6, "learning_rate": 1e6, "b1": 0.0}}
    )
    optimizer = build.optimizer(config)
    update, _ = jax.jit(lambda g: optimizer.update(g, optimizer.init(g), g))(grads)
    np.testing.assert_allclose([-update["a"][0], -update["b"][0]], [0.6, 0.8], rtol=1e-4)


def test_noise_is_a_function_of_the_key():
    run = Run(assemble(tiny_config(), (2,), 2))
    loss_fn = loss_of(run.model)
    params = any_params(shapes_of(run.network, jnp.zeros((1, 2)), jnp.ones(1)))
    batch = {"x": np.zeros((4, 2), np.float32), "label": np.zeros(4, int)}
    losses = [
        jax.jit(loss_fn)(params, jax.random.fold_in(jax.random.key(0), k), batch) for k in (0, 0, 1)
    ]
    np.testing.assert_array_equal(losses[0], losses[1])
    assert np.all(np.asarray(losses[0]) != np.asarray(losses[2]))


def test_a_network_of_zeros_starts_at_the_loss_of_the_prior():
    """At initialisation the network is 0, so EDM's loss per dimension is E F² = 1 for unit data."""
    config = tiny_config(
        model=recipes.ModelConfig(data_std=1.0),
        loss=recipes.LossConfig(target="x0", weight=recipes.choice("edm")),
    )
    run = Run(assemble(config, (2,), 2))
    loss_fn = loss_of(run.model)

    @jax.jit
    def at_first(key, x):
        return loss_fn(
            fresh_state(run.model).players["model"].params,
            key,
            {"x": x, "label": jnp.zeros(4096, int)},
        )

    loss = np.asarray(at_first(jax.random.key(2), normal((4096, 2))))
    error = np.std(loss) / np.sqrt(loss.size)
    assert abs(np.mean(loss) - 1.0) < 5 * error
