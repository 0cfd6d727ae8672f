"""The loss of a configuration: times, importance weights, the hybrid loss, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from assertions import assert_mean_close
from net_tools import any_params, normal, shapes_of
from players import loss_of, player_of
from tiny import tiny_config

from jaxdiff import losses, processes, recipes
from jaxdiff.recipes import Run, build, choice, objective
from jaxdiff.recipes.diffusion import assemble, fresh_state
from jaxdiff.recipes.resuming import _named
from jaxdiff.typing import InputError

CHAIN = choice("ddpm", num_steps=20, beta_start=0.01, beta_end=0.3)
HYBRID = {
    "process": CHAIN,
    "model": recipes.ModelConfig(data_std=1.0, learned_variance=True),
    "loss": recipes.LossConfig(name="hybrid", vlb_weight=0.5, t_min=0.0),
}


def assembled(size=2, **changes):
    """A run, its loss, and parameters as after training."""
    run = Run(assemble(tiny_config(**changes), (size,), None))
    params = any_params(shapes_of(run.network, jnp.zeros((1, size)), jnp.ones(1)))
    return run, loss_of(run.model), params


@pytest.mark.parametrize(
    "process",
    [pytest.param(choice("vp"), id="vp"), pytest.param(CHAIN, id="chain", marks=pytest.mark.slow)],
)
def test_every_time_sampler_trains_on_the_same_loss(process):
    """With likelihood weighting, where the variances of the estimates differ most."""
    loss = {"weight": choice("likelihood"), "t_min": 0.0 if process is CHAIN else 1e-2}
    every, params = {}, None
    for name, options in {
        "uniform": {}, "stratified": {}, "importance": {}, "log_normal": {"mean": -0.5, "std": 2.0},
    }.items():  # fmt: skip
        config = recipes.LossConfig(**loss, times=choice(name, **options))
        _, every[name], params = assembled(loss=config, process=process)

    @jax.jit
    def batch_means(key):
        """Batch means of the loss of one model over fresh data and times."""

        def means(key):
            data_key, loss_key = jax.random.split(key)
            x = jax.random.normal(data_key, (16, 2))
            found = {name: fn(params, loss_key, {"x": x}) for name, fn in every.items()}
            return jax.tree.map(jnp.mean, found)

        return jax.lax.map(means, jax.random.split(key, 300))

    found = jax.tree.map(np.float64, batch_means(jax.random.key(0)))
    best = found["importance"]
    for name, values in found.items():
        error = np.hypot(*(v.std() / np.sqrt(len(v)) for v in (values, best)))
        assert abs(values.mean() - best.mean()) < 5 * error, name
    assert best.std() < 0.7 * found["uniform"].std()


@pytest.mark.slow
def test_without_importance_weights_the_distribution_of_times_is_the_objective():
    """EDM's loss starts at 1 per number for any t: only its spread depends on the weights."""
    settings = {"weight": choice("edm"), "target": "x0", "times": choice("log_normal")}

    (run, plain_loss, _), (_, weighted_loss, _) = (
        assembled(loss=recipes.LossConfig(**settings, importance_weights=weights))
        for weights in (False, True)
    )

    @jax.jit
    def untrained(key):
        params, batch = player_of(fresh_state(run.model)).params, {"x": normal((4096, 2))}
        return plain_loss(params, key, batch), weighted_loss(params, key, batch)

    plain, weighted = map(np.asarray, untrained(jax.random.key(2)))
    assert_mean_close(plain, 1.0)
    assert weighted.std() > 2  # weights of all sizes, though their mean is again 1


def test_likelihood_weighting_matches_score_sde():
    """g(t)² times the mean, or half the sum, of (score + z/std)², for the VP SDE of the paper."""
    settings = {"weight": choice("likelihood_weighting"), "times": choice("uniform")}
    (run, loss_of_mean, params), (_, loss_of_sum, _) = (
        assembled(5, loss=recipes.LossConfig(**settings, reduction=reduction))
        for reduction in ("mean", "sum")
    )

    @jax.jit
    def losses_and_what_they_drew(key, x):
        time_key, noise_key, _ = jax.random.split(key, 3)
        t, _ = losses.times.uniform(time_key, 8, t_min=run.config.loss.t_min)
        noised = processes.perturb(
            objective.keys_per_row(noise_key, jnp.arange(8)), run.process, x, t
        )
        model = build.denoise_fn(run.config, run.network, run.process, params)
        found = [loss_fn(params, key, {"x": x}) for loss_fn in (loss_of_mean, loss_of_sum)]
        return *found, t, noised.eps, model(noised.x_t, t).eps

    mean, total, t, z, eps = map(
        np.float64, losses_and_what_they_drew(jax.random.key(4), normal((8, 5)))
    )
    std = np.sqrt(1 - np.exp(-0.5 * t**2 * (20.0 - 0.1) - t * 0.1))
    g2 = 0.1 + t * (20.0 - 0.1)
    squares = (-eps / std[:, None] + z / std[:, None]) ** 2
    np.testing.assert_allclose(mean, g2 * squares.mean(axis=-1), rtol=1e-4)
    np.testing.assert_allclose(total, g2 * 0.5 * squares.sum(axis=-1), rtol=1e-4)


@pytest.mark.slow
def test_hybrid_loss_matches_the_library_per_dimension():
    run, loss_fn, params = assembled(**HYBRID)

    @jax.jit
    def both(key, x):
        found = loss_fn(params, key, {"x": x})
        time_key, noise_key, _ = jax.random.split(key, 3)
        t, _ = losses.times.stratified(time_key, 8, num_steps=20)
        model = build.denoise_fn(run.config, run.network, run.process, params)
        assert model(x, t).variance_fraction.shape == x.shape
        noise_key = objective.keys_per_row(noise_key, jnp.arange(8))
        expected = losses.hybrid(noise_key, model, run.process, x, t, num_steps=20, vlb_weight=0.5)
        return found, expected / 2

    found, expected = both(jax.random.key(4), normal((8, 2)))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.slow
def test_hybrid_loss_trains_the_variance_and_its_run_samples():
    """The second half of the output starts at 0, v = ½; for N(0, I) the right v is 1."""
    run, loss_fn, _ = assembled(**HYBRID)
    state = jax.jit(lambda: fresh_state(run.model))()

    @jax.jit
    @jax.grad
    def gradient(params):
        return jnp.mean(loss_fn(params, jax.random.key(6), {"x": normal((512, 2))}))

    leaves = jax.tree.leaves(gradient(player_of(state).params))
    last = max((g for g in leaves if g.shape == (4,)), key=np.linalg.norm)
    assert np.all(last[2:] < 0)  # raising the bias lowers the loss
    trained = run.at(state)
    assert trained.sample(jax.random.key(0), 3, solver="ancestral").shape == (3, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": recipes.LossConfig(times=choice("sometimes"))}, "loss.times.name must be one of"),
        (
            {"loss": recipes.LossConfig(times=choice("log_normal", spread=1.0))},
            "config.loss.times.spread does not exist; config.loss.times has mean, std",
        ),
        (
            {"loss": recipes.LossConfig(times=choice("importance", uniform_share=2.0))},
            "config.loss.times: uniform_share must be in",
        ),
        ({"loss": recipes.LossConfig(times=choice("importance"), t_min=0.0)}, "t_min > 0"),
    ],
)
def test_an_invalid_loss_is_refused_before_anything_is_written(changes, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Run(assemble(tiny_config(**changes), (2,), None))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "hybrd"}, "loss.name must be one of .*did you mean 'hybrid'"),
        ({"name": "vlb"}, "config.process must be a chain for the loss vlb"),
        ({"name": "hybrid", "process": CHAIN}, "vlb_weight must be positive for hybrid, got 0.0"),
        ({"vlb_weight": 0.1}, "vlb_weight must be 0 for any loss but hybrid, got 0.1"),
        ({"name": "elbo", "process": CHAIN}, "loss.name must be vlb for the bound of a"),
        ({"process": choice("learned_vp")}, "loss.name must be elbo for the process learned_vp"),
        ({"name": "ssm", "target": "x0"}, "loss.target must be eps for any loss but denoising"),
        ({"name": "elbo", "weight": choice("x0")}, "loss.weight must be eps for the loss elbo"),
        (
            {"name": "elbo", "importance_weights": False},
            "importance_weights must be true for the bound elbo",
        ),
        ({"name": "girsanov", "times": choice("fixed")}, "loss.times must not be fixed"),
        ({"times": choice("loss_aware")}, "config.process must be a chain for the loss_aware"),
        ({"name": "hybrid", "vlb_weight": 1.0, "process": CHAIN}, "learned_variance must be true"),
    ],
)
def test_incompatible_settings_are_refused(changes, message):
    changes = dict(changes)
    process = changes.pop("process", choice("vp"))
    values = tiny_config(process=process).as_dict()
    values["loss"] |= {k: v.as_dict() if hasattr(v, "as_dict") else v for k, v in changes.items()}
    with pytest.raises(InputError, match=message):
        assemble(recipes.from_dict(values), (2,), None)


def test_a_configuration_from_before_named_losses_keeps_its_meaning():
    old = {"loss": {"vlb_weight": 0.001}}
    assert _named(old)["loss"]["name"] == "hybrid"
    assert _named({"loss": {"vlb_weight": 0.0}}) == {"loss": {"vlb_weight": 0.0}}
