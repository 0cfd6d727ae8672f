"""Model settings of a configuration: label dropout, noise conditioning, reductions, constants."""

import dataclasses
import functools
import re
from typing import get_args

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import any_params, shapes_of
from players import loss_of, player_of
from tiny import tiny_config

from jaxdiff import denoisers, processes, recipes
from jaxdiff.recipes import Run, bounds, choice, objective
from jaxdiff.recipes.config import Precision
from jaxdiff.recipes.diffusion import algorithm, assemble, fresh_state
from jaxdiff.train.averages import exponential, update
from jaxdiff.typing import InputError

CLASSES = recipes.ModelConfig(data_std=1.0, class_conditional=True)


def run_of(**model):
    config = tiny_config(model=dataclasses.replace(CLASSES, **model))
    run = Run(assemble(config, (2,), 3))
    shapes = shapes_of(run.network, jnp.zeros((1, 2)), jnp.ones(1), jnp.zeros(1, int))
    return dataclasses.replace(run, params=any_params(shapes))


def test_labels_are_dropped_at_the_configured_rate_to_the_last_class():
    run = run_of(label_dropout=0.25)
    assert run.network.num_classes == 4
    label = np.tile(np.arange(3), 20_000)

    @jax.jit
    def with_dropout(key, label):
        keys = objective.keys_per_row(key, jnp.arange(60_000))
        return objective.drop_labels(keys, label, 0.25, run.network.num_classes)

    given = np.asarray(with_dropout(jax.random.key(0), label))
    dropped = given == 3
    np.testing.assert_array_equal(given[~dropped], label[~dropped])
    # a fraction of n = 60,000 draws has the standard error √(¼·¾/n)
    assert abs(dropped.mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / len(label))


def test_without_a_label_such_a_network_is_the_unconditional_model():
    run = run_of(label_dropout=0.25)
    conditioned = jax.jit(lambda label: run.conditioned(label)(jnp.ones((3, 2)), 0.4).x0)
    without = conditioned(None)
    np.testing.assert_array_equal(without, conditioned(np.full(3, 3)))
    assert np.max(np.abs(without - conditioned(np.zeros(3, int)))) > 1e-3


def test_without_label_dropout_a_label_is_required():
    run = run_of()
    assert run.network.num_classes == 3
    with pytest.raises(InputError, match="label must be given, as in run"):
        _ = run.denoise_fn


@pytest.mark.parametrize(
    ("label", "got"),
    [
        (1.5, "got 1.5"),
        ([0, 1, 3], "got 3"),
        (-1, "got -1"),
        (float("nan"), "got nan"),
        (True, "got True"),
        ("1", "got '1'"),
        (["0", "1", "2"], "got an array of type"),
        ([0, None, 1], "got an array of type object"),
        ([[0, 1], [2]], r"got \[\[0, 1\], \[2\]\]"),
    ],
)
def test_invalid_classes_are_refused(label, got):
    run = run_of()
    for use in (
        lambda: run.sample(jax.random.key(0), 3, label=label),
        lambda: run.conditioned(label),
    ):
        with pytest.raises(InputError, match=f"label must be whole numbers from 0 to 2, {got}"):
            use()
    with pytest.raises(
        InputError, match=r"one class, or one for each of 3 samples, got shape \(2,"
    ):
        run.sample(jax.random.key(0), 3, label=[0, 1])


def test_whole_floats_are_labels():
    run = run_of()
    table = np.loadtxt(["0.0,1", "0.3,0", "0.2,2"], delimiter=",")[:, 1]
    key = jax.random.key(0)
    found, expected = (run.sample(key, 3, label=label) for label in (table, [1, 0, 2]))
    np.testing.assert_array_equal(found, expected)
    assert np.ptp(np.asarray(run.sample(key, 3, label=1.0) - found)) > 1e-3


def test_labels_may_be_traced_or_drawn_by_a_traced_key():
    run, key = run_of(), jax.random.key(0)
    draw = functools.partial(run.sample, key, 3)
    assert jax.eval_shape(lambda label: draw(label=label), np.zeros(3, int)).shape == (3, 2)
    assert jax.eval_shape(lambda key: run.sample(key, 3), key).shape == (3, 2)
    with pytest.raises(InputError, match=r"of an integer type under jax\.jit, got float32"):
        jax.eval_shape(lambda label: draw(label=label), np.zeros(3, np.float32))


def test_label_dropout_without_classes_is_refused():
    config = tiny_config(model=recipes.ModelConfig(label_dropout=0.1))
    with pytest.raises(InputError, match=r"label_dropout must be 0 without .*class_conditional"):
        Run(assemble(config, (2,), 3))


def test_the_step_index_counts_from_0_to_the_number_of_steps_minus_1():
    chain = processes.DiscreteVP.from_betas(np.linspace(0.01, 0.2, 10, dtype=np.float32))
    t = np.float32(np.arange(1, 11) / 10)
    np.testing.assert_allclose(denoisers.chain_index(chain, t), np.arange(10), atol=1e-5)
    # NCSN lists its σ from the largest down, and gives its network the index in that list
    listed = np.geomspace(50.0, 0.01, 10)
    ladder = processes.DiscreteVE.from_sigmas(np.float32(listed[::-1]))
    place = np.rint(denoisers.chain_index(ladder, t)).astype(int)
    np.testing.assert_array_equal(place, np.arange(10)[::-1])
    np.testing.assert_allclose(jax.vmap(ladder.sigma)(t), listed[place], rtol=1e-5)
    with pytest.raises(InputError, match="must be a chain for its step index"):
        denoisers.chain_index(processes.VP(), t)


def test_the_sum_reduction_is_half_the_mean_times_the_dimension():
    def loss(reduction, key):
        run = Run(assemble(tiny_config(loss=recipes.LossConfig(reduction=reduction)), (2,), None))
        params = any_params(shapes_of(run.network, jnp.zeros((1, 2)), jnp.ones(1)))
        loss_fn = loss_of(run.model)
        return jax.jit(loss_fn)(params, key, {"x": np.ones((4, 2), np.float32)})

    total, mean = (loss(reduction, jax.random.key(0)) for reduction in ("sum", "mean"))
    np.testing.assert_allclose(total, mean * 2 / 2, rtol=1e-6)


def test_constants_are_neither_trained_nor_decayed_nor_averaged():
    """Fourier frequencies under AdamW, whose decay would otherwise pull them to zero."""
    config = tiny_config(model=recipes.ModelConfig(noise_cond="fourier"), loss=recipes.LossConfig())
    run = Run(assemble(config, (2,), None))
    assert run.network.embedding == "fourier"
    state = jax.jit(lambda: fresh_state(run.model))()
    before = jax.tree.map(np.asarray, player_of(state).params)
    step = jax.jit(algorithm(run.model).step)
    for _ in range(3):
        state, _ = step(state, {"x": np.ones((8, 2), np.float32)})
    player = player_of(state)
    for params in (player.params, *player.averages):
        chex.assert_trees_all_equal(params["constants"], before["constants"])
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), player.params, before)["params"]
    assert sum(jax.tree.leaves(moved)) > len(jax.tree.leaves(moved)) // 2


def test_the_average_of_a_constant_is_itself_bit_for_bit():
    step = jax.jit(lambda average, value, k: update(average, value, exponential(0.9999)(k)))
    average = value = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    for k in range(20):
        average = step(average, value, k)
    np.testing.assert_array_equal(average, value)


def test_an_optional_count_accepts_a_number_or_none():
    for groups in (None, 4):
        config = tiny_config(network=choice("unet", channels=8, groups=groups))
        assert Run(assemble(config, (8, 8, 1), None)).network.groups == groups
    config = tiny_config(network=choice("unet", channels=8, groups="four"))
    with pytest.raises(InputError, match="groups must be an integer or None, got 'four'"):
        Run(assemble(config, (8, 8, 1), None))


@pytest.mark.parametrize("precision", get_args(Precision))
def test_every_product_of_a_network_and_of_its_gradient_has_the_configured_precision(precision):
    run = run_of(matmul_precision=precision)
    batch = {"x": jnp.ones((3, 2)), "label": jnp.zeros(3, int)}
    gradient = jax.grad(
        lambda params: jnp.sum(loss_of(run.model)(params, jax.random.key(0), batch))
    )
    assert precisions(jax.make_jaxpr(gradient)(run.params)) == {precision.upper()}


def precisions(program):
    """Precisions of the products in a program."""
    return set(
        re.findall(r"dot_general\[.*?precision=\(?(?:Precision\.)?(\w+)", str(program), re.S)
    )


def test_likelihoods_are_computed_in_the_highest_precision(monkeypatch):
    run, seen = run_of(), []
    monkeypatch.setattr(bounds, "_draw", lambda run, *_, **__: seen.append(run) or jnp.zeros(3))
    x, label = np.zeros((3, 2), np.float32), np.zeros(3, int)
    found = recipes.bits_per_dim(run, x, label, draws=1, seed=0)
    assert found.matmul_precision == seen[0].config.model.matmul_precision == "highest"
    assert run.config.model.matmul_precision == "default"
