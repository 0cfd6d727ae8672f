"""A step is the same whole or in parts; and one that is not finite is skipped."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from net_tools import normal
from players import loss_of, player_of
from quickly import first_is_quick
from tiny import tiny_config

from jaxdiff import recipes, train
from jaxdiff.recipes import Run
from jaxdiff.recipes.diffusion import algorithm, assemble, fresh_state
from jaxdiff.train import averages
from jaxdiff.train.state import BatchSlice
from jaxdiff.typing import InputError


@pytest.fixture(scope="module")
def parts():
    config = tiny_config(loss=recipes.LossConfig(target="x0", weight=recipes.choice("edm")))
    run = Run(assemble(config, (2,), None))

    def step(state, batch, **layout):
        return algorithm(run.model, **layout).step(state, batch)

    batch = {"x": normal((16, 2)), "label": np.zeros(16, np.int32)}
    return jax.jit(lambda: fresh_state(run.model))(), step, batch


def close(found, expected, rtol=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = float(np.max(np.abs(b))) or 1.0
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("microbatches", first_is_quick([2, 4, 16]))
def test_microbatches_add_up_to_the_step_of_the_whole_batch(parts, microbatches):
    state, step, batch = parts
    whole, metrics = jax.jit(step)(state, batch)
    cut, split = jax.jit(functools.partial(step, microbatches=microbatches))(state, batch)
    close(player_of(cut).params, player_of(whole).params)
    close(split, metrics)


def test_microbatches_that_do_not_divide_the_batch_are_refused(parts):
    state, step, batch = parts
    with pytest.raises(InputError, match="divide the batch size of a device, 16, got 3"):
        step(state, batch, microbatches=3)


def test_noise_and_time_of_a_row_do_not_depend_on_its_position(parts):
    state, _, batch = parts
    run = Run(assemble(tiny_config(), (2,), None))
    loss_fn = loss_of(run.model)
    rows = np.array([9, 2, 14])

    @jax.jit
    def whole_and_part(params, key, batch):
        some = jax.tree.map(lambda leaf: leaf[rows], batch)
        return loss_fn(params, key, batch), loss_fn(params, key, some, BatchSlice(rows, 16))

    whole, found = whole_and_part(player_of(state).params, jax.random.key(3), batch)
    np.testing.assert_allclose(found, whole[rows], rtol=1e-5)


def test_an_update_that_is_not_finite_is_skipped_and_counted(parts):
    state, step, batch = parts
    step = jax.jit(step)
    bad = jax.tree.map(np.copy, batch)
    bad["x"][3, 0] = np.nan
    before, (after, first) = state, step(state, bad)
    assert int(first["skipped"]) == 1
    assert int(after.step) == 1
    chex.assert_trees_all_equal(after.players, before.players)
    again, second = step(after, bad)
    assert int(second["skipped"]) == 2
    good, third = step(again, batch)
    assert int(third["skipped"]) == int(good.skipped) == 0
    good, _ = step(good, batch)  # the first rate of the warm-up is 0
    assert np.isfinite(third["loss"])
    params = (jax.tree.leaves(player_of(state).params) for state in (good, before))
    pairs = zip(*params, strict=True)
    assert any(not np.array_equal(*pair) for pair in pairs)


def test_an_infinite_gradient_of_a_finite_loss_is_skipped_too():
    def kink(params, view, key, batch, part):
        return jnp.sqrt(params * batch), ()  # finite at 0, with an infinite slope

    turn = train.Turn("w", kink, optax.sgd(0.1), (averages.exponential(0.9),))
    init, step = train.alternate(lambda key: {"w": jnp.zeros(1)}, [turn])
    after, metrics = jax.jit(step)(init(jax.random.key(0)), np.ones(4, np.float32))
    assert float(metrics["loss"]) == 0
    assert int(metrics["skipped"]) == 1
    assert float(after.players["w"].params[0]) == 0
