"""Every loss that a configuration can name: closed-form mean, rows, gradients."""

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
from jaxdiff.recipes.diffusion import PLAYER, algorithm, assemble, fresh_state
from jaxdiff.recipes.measures import MEASURES
from jaxdiff.train import BatchSlice, View

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


MANY = 40_000
HALVES = range(MANY // 2), range(MANY // 2, MANY)
OWN = ("hybrid", "learned")  # have their own parameters; the other cases share one network


@functools.cache
def model_of(name):
    return assemble(tiny_config(**SETTINGS[name]), (2,), None)


def trained_params(model):
    """Parameters as after training: nowhere zero."""
    shapes = shapes_of(model.network, jnp.zeros((1, 2)), jnp.ones(1))
    return build.with_process(any_params(shapes), model.process)


def history():
    """A history of arbitrary losses, as seen by the loss-aware times."""
    counts = model_of("loss-aware").objective.carry.counts
    return losses.loss_aware.LossHistory(
        np.exp(normal((*counts.shape, 2))), np.full(counts.shape, 2, counts.dtype)
    )


@functools.cache
def every_loss():
    """``(params, key, x, rows) -> {name: (losses, aux)}`` of these rows of a batch of MANY.

    In one program, which XLA compiles faster than one for each: they share much code.
    """
    objectives = {name: model_of(name).objective for name in SETTINGS}
    carries = {name: objective.carry for name, objective in objectives.items()}
    carries["loss-aware"] = history()

    @jax.jit
    def run(params, key, x, rows):
        found = {}
        for name, objective in objectives.items():
            own = params[name if name in OWN else "shared"]
            view = View({PLAYER: own}, {PLAYER: ()}, carries[name])
            found[name] = objective.loss_fn(own, view, key, {"x": x}, BatchSlice(rows, MANY))
        return found

    return run


@functools.cache
def of_rows(rows, *, trained=True):
    """All losses of half the rows, which are draws of N(0, I), in nats per dimension."""
    params = {name: trained_params(model_of(name)) for name in OWN}
    shared = model_of("denoising")
    params["shared"] = trained_params(shared) if trained else player_of(fresh_state(shared)).params
    x = normal((MANY, 2))[rows.start : rows.stop : rows.step]
    return every_loss()(params, jax.random.key(1), x, np.array(rows))


def of_all_rows(name, *, trained=True):
    halves = [of_rows(half, trained=trained)[name] for half in HALVES]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *halves)


def drawn(name, *, trained):
    return np.float64(of_all_rows(name, trained=trained)[0])


def assert_means_differ_by(found, other, difference):
    error = np.hypot(*(v.std() / np.sqrt(len(v)) for v in (found, other)))
    assert abs(found.mean() - other.mean() - difference) < 5 * error


def test_there_is_a_case_for_every_loss():
    assert {settings["loss"].name for settings in SETTINGS.values()} == set(MEASURES)


@pytest.mark.slow
def test_dsm_is_half_the_error_of_the_noise():
    found, noise = drawn("dsm", trained=True), drawn("denoising", trained=True)
    np.testing.assert_allclose(found, noise / 2, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["ism", "ism estimated", "ssm", "ssm_vr", "fd_ssm"])
def test_score_matching_without_the_noise_is_lower_by_half_per_dimension(name):
    """σ² J_DSM = σ² J_ISM + ½ E‖ε‖² at every t, for any model (Vincent 2011, eq. 11)."""
    assert_means_differ_by(drawn("dsm", trained=True), drawn(name, trained=True), 0.5)


@pytest.mark.parametrize("name", ["girsanov", "girsanov estimated"])
def test_the_bound_of_the_exact_model_is_the_entropy(name):
    """Before training D(x) = c_skip x, which is exact for N(0, I), like VP's last latent."""
    found = drawn(name, trained=False)
    assert_means_differ_by(found, np.array([0.5 * math.log(2 * math.pi * math.e)]), 0.0)
    assert found.std() > 0.1


def test_the_bound_with_a_decoder_is_the_entropy_and_the_decoders_gap():
    """½ log 2πe, and ½ (α² − 1 − log α²): its variance is σ²/α², the posterior's σ²."""
    alpha2 = float(processes.VP().alpha(T_MIN)) ** 2
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    expected = entropy + 0.5 * (alpha2 - 1 - math.log(alpha2))
    assert_means_differ_by(drawn("elbo", trained=False), np.array([expected]), 0.0)


def test_the_continuous_time_bounds_differ_only_by_the_decoder():
    """For any model: its error at t_min against the entropy of the noise there."""
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
    """The odd rows alone, and within the halves of the batch."""
    odd = range(1, MANY, 2)
    np.testing.assert_allclose(of_rows(odd)[name][0], drawn(name, trained=True)[odd], rtol=2e-5)


def test_loss_aware_times_do_not_change_the_mean():
    """With arbitrary past losses, steps are drawn in proportion to them and reweighted."""
    found, (t, error) = of_all_rows("loss-aware")
    assert_means_differ_by(np.float64(found), drawn("vlb", trained=True), 0.0)
    share = np.bincount(np.rint(np.asarray(t) * 20).astype(int), minlength=21)[1:] / len(t)
    size = np.sqrt(np.mean(np.square(history().losses), axis=1))
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


def test_a_step_records_its_losses_at_their_times():
    model = model_of("loss-aware")
    init, step = algorithm(model)
    state = init(jax.random.key(0))
    assert int(state.carry.counts.sum()) == 0
    state, metrics = jax.jit(step)(state, {"x": normal((16, 2)), "label": np.zeros(16)}, ())
    counts, kept = np.asarray(state.carry.counts), np.asarray(state.carry.losses)
    assert counts.sum() == 16
    assert np.all(counts <= 2)  # even draws at first, 16 over 20 nodes
    prior = metrics["loss"] - kept.sum() / 16
    assert 0 < prior < 0.5  # a loss is the part at its time plus the prior's part, common to all


@pytest.mark.slow
def test_the_ends_minimise_the_bound_and_the_shape_its_square():
    """From the library's parts, with the times and the noise of the loss."""
    model, key, x = model_of("learned"), jax.random.key(3), normal((64, 2))
    params, loss = trained_params(model), loss_of(model)

    def bound_and_square(own):
        process = dataclasses.replace(model.process, **own)
        time_key, noise_key, _ = jax.random.split(key, 3)
        t, _ = losses.times.stratified(time_key, len(x))
        keys = jax.vmap(jax.random.fold_in, (None, 0))(noise_key, jnp.arange(len(x)))
        first, second = jax.vmap(jax.random.split, out_axes=1)(keys)
        denoise_fn = build.denoise_fn(model.config, model.network, process, params)
        rate = denoising_rate(first, denoise_fn, process, x, t)
        ends = losses.elbo.reconstruction(second, denoise_fn, process, x, 0.0)
        prior = losses.elbo.prior_kl(process, x, 1.0)
        return jnp.mean(rate + prior + ends) / 2, jnp.mean((rate / 2) ** 2)

    @jax.jit
    def found_and_expected(own):
        def mean_loss(own):
            return jnp.mean(loss({**params, build.PROCESS: own}, key, {"x": x}))

        return jax.grad(mean_loss)(own), *jax.jacrev(bound_and_square)(own)

    found, bound, square = found_and_expected(params[build.PROCESS])
    for name, slope in found.items():
        expected = bound if name in ("log_snr_max", "log_range") else square
        np.testing.assert_allclose(slope, expected[name], rtol=2e-3, atol=1e-4, err_msg=name)
        assert np.all(np.abs(slope) > 0)


@pytest.mark.slow
def test_a_learned_schedule_trains_at_its_own_rate_and_is_used_by_the_run():
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
