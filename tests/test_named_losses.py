"""Every loss that a configuration can name: its mean in closed form, its rows, its refusals."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, normal, shapes_of
from players import loss_of, player_of
from tiny import tiny_config

from jaxdiff import losses, processes, recipes
from jaxdiff.losses.continuous_elbo import denoising_rate
from jaxdiff.recipes import Run, build, choice
from jaxdiff.recipes.diffusion import algorithm, assemble, fresh_state
from jaxdiff.recipes.measures import MEASURES
from jaxdiff.recipes.resuming import _named
from jaxdiff.train import BatchSlice, View
from jaxdiff.typing import InputError

CHAIN = choice("ddpm", num_steps=20, beta_start=0.01, beta_end=0.3)
LEARNED = choice("learned_vp", log_snr_max=6.0, log_snr_min=-6.0, num_steps=3)
T_MIN = 0.05
SETTINGS = {
    name: {"loss": recipes.LossConfig(name=name, t_min=T_MIN)}
    for name in ("denoising", "dsm", "ism", "ssm", "ssm_vr", "fd_ssm", "elbo", "girsanov")
} | {
    "vlb": {"process": CHAIN, "loss": recipes.LossConfig(name="vlb", t_min=0.0)},
    "hybrid": {
        "process": CHAIN,
        "model": recipes.ModelConfig(data_std=1.0, learned_variance=True),
        "loss": recipes.LossConfig(name="hybrid", vlb_weight=0.5, t_min=0.0),
    },
    "ism estimated": {
        "loss": recipes.LossConfig(name="ism", divergence="hutchinson", probe="sphere", t_min=T_MIN)
    },
    "girsanov estimated": {
        "loss": recipes.LossConfig(name="girsanov", divergence="hutchinson", t_min=T_MIN)
    },
    "loss-aware": {
        "process": CHAIN,
        "loss": recipes.LossConfig(name="vlb", times=choice("loss_aware", length=2), t_min=0.0),
    },
    "learned": {"process": LEARNED, "loss": recipes.LossConfig(name="elbo", t_min=0.0)},
}


@functools.cache
def model_of(name):
    return assemble(tiny_config(**SETTINGS[name]), (2,), None)


def trained_params(model):
    """As after training: nowhere zero."""
    shapes = shapes_of(model.network, jnp.zeros((1, 2)), jnp.ones(1))
    return build.with_process(any_params(shapes), model.process)


@functools.cache
def drawn(name, *, trained):
    """Losses of many examples of N(0, I), in nats per dimension."""
    model = model_of(name)
    params = trained_params(model) if trained else player_of(fresh_state(model)).params
    loss = jax.jit(loss_of(model))
    return np.float64(loss(params, jax.random.key(1), {"x": normal((40_000, 2))}))


def assert_means_differ_by(found, other, difference):
    error = np.hypot(*(v.std() / np.sqrt(len(v)) for v in (found, other)))
    assert abs(found.mean() - other.mean() - difference) < 5 * error


def test_there_is_a_case_of_every_loss():
    assert {settings["loss"].name for settings in SETTINGS.values()} == set(MEASURES)


def test_dsm_is_half_the_error_of_the_noise():
    found, noise = drawn("dsm", trained=True), drawn("denoising", trained=True)
    np.testing.assert_allclose(found, noise / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["ism", "ism estimated", "ssm", "ssm_vr", "fd_ssm"])
def test_score_matching_without_the_noise_lacks_half_of_it_per_dimension(name):
    """σ² J_DSM = σ² J_ISM + ½ E‖ε‖² at every t, whatever the model (Vincent 2011, eq. 11)."""
    assert_means_differ_by(drawn("dsm", trained=True), drawn(name, trained=True), 0.5)


@pytest.mark.parametrize("name", ["girsanov", "girsanov estimated"])
def test_the_bound_of_the_exact_model_is_the_entropy(name):
    """Before training D(x) = c_skip x, which is exact for N(0, I); so is VP's last latent."""
    found = drawn(name, trained=False)
    assert_means_differ_by(found, np.array([0.5 * math.log(2 * math.pi * math.e)]), 0.0)
    assert found.std() > 0.1


def test_the_bound_with_a_decoder_is_the_entropy_and_the_decoders_gap():
    """½ log 2πe, and ½ (α² − 1 − log α²): its variance is σ²/α², the posterior's σ²."""
    alpha2 = float(processes.VP().alpha(T_MIN)) ** 2
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    expected = entropy + 0.5 * (alpha2 - 1 - math.log(alpha2))
    assert_means_differ_by(drawn("elbo", trained=False), np.array([expected]), 0.0)


def test_the_bounds_in_continuous_time_differ_by_the_decoder_alone():
    """Whatever the model: its error at t_min against the entropy of the noise there."""
    elbo, girsanov = drawn("elbo", trained=True), drawn("girsanov", trained=True)
    model = model_of("elbo")
    params, process = trained_params(model), model.process

    @jax.jit
    def gap(key, x0):
        denoise_fn = build.denoise_fn(model.config, model.network, process, params)
        decoded = losses.elbo.reconstruction(key, denoise_fn, process, x0, T_MIN)
        return decoded / 2 - 0.5 * jnp.log(2 * jnp.pi * jnp.e * process.variance(T_MIN))

    values = np.float64(gap(jax.random.key(2), normal((40_000, 2), seed=3)))
    assert_means_differ_by(elbo - values, girsanov, 0.0)


def test_vlb_is_the_sum_of_the_chains_terms():
    model = model_of("vlb")
    params = trained_params(model)

    @jax.jit
    def whole(key, x0):
        denoise_fn = build.denoise_fn(model.config, model.network, model.process, params)
        return jnp.sum(
            jnp.stack(
                losses.elbo_terms(
                    key, denoise_fn, model.process, x0, times=jnp.arange(20, 0, -1) / 20
                )
            ),
            axis=0,
        )

    expected = np.float64(whole(jax.random.key(5), normal((2000, 2), seed=4))) / 2
    assert_means_differ_by(drawn("vlb", trained=True), expected, 0.0)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_row_is_the_same_in_any_part_of_the_batch(name):
    model = model_of(name)
    params, loss = trained_params(model), loss_of(model)

    @jax.jit
    def both(key, x):
        rows = jnp.array([1, 3, 5])
        part = loss(params, key, {"x": x[rows]}, BatchSlice(rows, 8))
        return loss(params, key, {"x": x})[rows], part

    whole, part = both(jax.random.key(7), normal((8, 2)))
    np.testing.assert_allclose(part, whole, rtol=2e-5)


def test_loss_aware_times_change_the_times_and_not_the_mean():
    """With a history of any losses, each as often as it was large, weighted back."""
    model = model_of("loss-aware")
    objective, params = model.objective, trained_params(model)
    history = losses.loss_aware.LossHistory(
        jnp.exp(normal((20, 2))), jnp.full(20, 2, model.objective.carry.counts.dtype)
    )

    @jax.jit
    def values(key, x):
        view = View({"model": params}, {"model": ()}, history)
        return objective.loss_fn(
            params, view, key, {"x": x}, BatchSlice(jnp.arange(len(x)), len(x))
        )

    found, (t, error) = values(jax.random.key(8), normal((40_000, 2)))
    assert_means_differ_by(np.float64(found), drawn("vlb", trained=True), 0.0)
    share = np.bincount(np.rint(np.asarray(t) * 20).astype(int), minlength=21)[1:] / len(t)
    size = np.sqrt(np.mean(np.square(history.losses), axis=1))
    np.testing.assert_allclose(share, size / size.sum(), rtol=0.02, atol=2e-4)
    assert not np.allclose(found, error)


def test_fixed_times_are_those_of_one_noise_level():
    loss = recipes.LossConfig(name="dsm", times=choice("fixed"), t_min=0.3)
    model = assemble(tiny_config(loss=loss), (2,), None)
    params, key, x = trained_params(model), jax.random.key(9), normal((8, 2))

    @jax.jit
    def found_and_expected(key, x):
        noise_key = jax.random.split(key, 3)[1]
        keys = jax.vmap(jax.random.fold_in, (None, 0))(noise_key, jnp.arange(8))
        denoise_fn = build.denoise_fn(model.config, model.network, model.process, params)
        expected = losses.denoising(keys, denoise_fn, model.process, x, jnp.full(8, 0.3))
        return loss_of(model)(params, key, {"x": x}), expected / 4

    np.testing.assert_allclose(*found_and_expected(key, x), rtol=1e-4, atol=1e-6)


def test_a_step_records_the_losses_that_it_saw_at_their_times():
    model = model_of("loss-aware")
    init, step = algorithm(model)
    state = init(jax.random.key(0))
    assert int(state.carry.counts.sum()) == 0
    state, metrics = jax.jit(step)(state, {"x": normal((16, 2)), "label": np.zeros(16)}, ())
    counts, kept = np.asarray(state.carry.counts), np.asarray(state.carry.losses)
    assert counts.sum() == 16
    assert np.all(counts <= 2)  # even draws at first, 16 over 20 nodes
    prior = metrics["loss"] - kept.sum() / 16
    assert 0 < prior < 0.5  # a loss is that at its time, and the prior's part that all share


def learned_gradient(params, key, x):
    return jax.grad(lambda p: jnp.mean(loss_of(model_of("learned"))(p, key, {"x": x})))(params)


def test_the_ends_follow_the_bound_and_the_shape_its_square():
    """By the parts of the library, with the times and the noise of the loss."""
    model, key, x = model_of("learned"), jax.random.key(3), normal((64, 2))
    params = trained_params(model)

    def parts(own):
        process = dataclasses.replace(model.process, **own)
        time_key, noise_key, _ = jax.random.split(key, 3)
        t, _ = losses.times.stratified(time_key, len(x))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(noise_key, jnp.arange(len(x)))
        first, second = jax.vmap(jax.random.split, out_axes=1)(keys)
        denoise_fn = build.denoise_fn(model.config, model.network, process, params)
        elbo = losses.continuous_elbo(
            key, denoise_fn, process, x, losses.times.TimeSample(t, jnp.ones_like(t)), t_min=0.0
        )
        rate = denoising_rate(first, denoise_fn, process, x, t)
        ends = losses.elbo.reconstruction(second, denoise_fn, process, x, 0.0)
        return jnp.mean(rate + elbo.prior + ends) / 2, jnp.mean((rate / 2) ** 2)

    @jax.jit
    def found_and_expected(params):
        own = params[build.PROCESS]
        bound, square = (jax.grad(lambda p, i=i: parts(p)[i])(own) for i in (0, 1))
        return learned_gradient(params, key, x)[build.PROCESS], bound, square

    found, bound, square = found_and_expected(params)
    for name, slope in found.items():
        expected = bound if name in ("log_snr_max", "log_range") else square
        np.testing.assert_allclose(slope, expected[name], rtol=2e-3, atol=1e-4, err_msg=name)
        assert np.all(np.abs(slope) > 0)


def test_a_learned_schedule_moves_at_its_own_rate_and_is_that_of_the_run():
    config = tiny_config(**SETTINGS["learned"])
    config = dataclasses.replace(
        config, optimizer=dataclasses.replace(config.optimizer, process_learning_rate=0.125)
    )
    model = assemble(config, (2,), None)
    init, step = algorithm(model)
    before = init(jax.random.key(0))
    after, _ = jax.jit(step)(before, {"x": normal((16, 2)), "label": np.zeros(16)}, ())
    old, new = (player_of(s).params[build.PROCESS] for s in (before, after))
    for name in old:  # Adam's first step is its learning rate in size
        np.testing.assert_allclose(np.abs(new[name] - old[name]), 0.125, rtol=1e-3)
    run = Run(model, params=player_of(after).params)
    log_snr = jax.jit(lambda: run.process.log_snr(jnp.array([0.0])))()
    np.testing.assert_allclose(log_snr, new["log_snr_max"], rtol=1e-4)
    assert run.sample(jax.random.key(1), 3).shape == (3, 2)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"name": "hybrd"}, "loss.name must be one of .*did you mean 'hybrid'"),
        ({"name": "vlb"}, "config.process must be a chain for the loss vlb"),
        ({"name": "hybrid", "process": CHAIN}, "vlb_weight must be positive for hybrid, got 0.0"),
        ({"vlb_weight": 0.1}, "vlb_weight must be 0 for any loss but hybrid, got 0.1"),
        ({"name": "elbo", "process": CHAIN}, "loss.name must be vlb for the bound of a"),
        ({"process": LEARNED}, "loss.name must be elbo for the process learned_vp"),
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
def test_what_does_not_go_together_is_refused(changes, sentence):
    changes = dict(changes)
    process = changes.pop("process", choice("vp"))
    values = tiny_config(process=process).as_dict()
    values["loss"] |= {k: v.as_dict() if hasattr(v, "as_dict") else v for k, v in changes.items()}
    with pytest.raises(InputError, match=sentence):
        assemble(recipes.from_dict(values), (2,), None)


def test_a_configuration_of_before_losses_had_names_is_read_as_it_was_meant():
    old = {"loss": {"vlb_weight": 0.001}}
    assert _named(old)["loss"]["name"] == "hybrid"
    assert _named({"loss": {"vlb_weight": 0.0}}) == {"loss": {"vlb_weight": 0.0}}
