"""One step is one step, whole or in parts; and one that is not finite is not made."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from net_tools import normal
from quickly import first_is_quick
from tiny import tiny_config

from jaxdiff import train
from jaxdiff.train import averages, build, objective
from jaxdiff.train.assembly import assemble, fresh_state
from jaxdiff.train.state import BatchSlice
from jaxdiff.typing import InputError


@pytest.fixture(scope="module")
def parts():
    config = tiny_config(loss=train.LossConfig(target="x0", weight=train.choice("edm")))
    run = assemble(config, (2,), None)
    step = functools.partial(
        train.train_step,
        loss_fn=objective.loss_fn(run.config, run.network, run.process),
        optimizer=build.optimizer(run.config),
        rules=build.ema_schedules(run.config),
    )
    batch = {"x": normal((16, 2)), "label": np.zeros(16, np.int32)}
    return jax.jit(lambda: fresh_state(run))(), step, batch


def close(found, expected, rtol=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        scale = float(np.max(np.abs(b))) or 1.0
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * scale)


@pytest.mark.parametrize("microbatches", first_is_quick([2, 4, 16]))
def test_microbatches_add_up_to_the_step_of_the_whole_batch(parts, microbatches):
    state, step, batch = parts
    whole, metrics = jax.jit(step)(state, batch)
    cut, in_turns = jax.jit(functools.partial(step, microbatches=microbatches))(state, batch)
    close(cut.params, whole.params)
    close(in_turns, metrics)


def test_microbatches_that_do_not_divide_the_batch_are_refused(parts):
    state, step, batch = parts
    with pytest.raises(InputError, match="divisor of the batch, 16 on a device, got 3"):
        step(state, batch, microbatches=3)


def test_rows_have_their_noise_and_time_wherever_they_come(parts):
    state, _, batch = parts
    run = assemble(tiny_config(), (2,), None)
    loss_fn = objective.loss_fn(run.config, run.network, run.process)
    rows = np.array([9, 2, 14])

    @jax.jit
    def whole_and_part(params, key, batch):
        some = jax.tree.map(lambda leaf: leaf[rows], batch)
        return loss_fn(params, key, batch), loss_fn(params, key, some, BatchSlice(rows, 16))

    whole, found = whole_and_part(state.params, jax.random.key(3), batch)
    np.testing.assert_allclose(found, whole[rows], rtol=1e-5)


def test_an_update_that_is_not_finite_is_not_made_and_is_counted(parts):
    state, step, batch = parts
    step = jax.jit(step)
    bad = jax.tree.map(np.copy, batch)
    bad["x"][3, 0] = np.nan
    before, (after, first) = state, step(state, bad)
    assert int(first["skipped"]) == 1
    assert int(after.step) == 1
    for name in ("params", "averages", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, getattr(after, name), getattr(before, name))
    again, second = step(after, bad)
    assert int(second["skipped"]) == 2
    well, third = step(again, batch)
    assert int(third["skipped"]) == int(well.skipped) == 0
    well, _ = step(well, batch)  # the first rate of the warm-up is 0
    assert np.isfinite(third["loss"])
    pairs = zip(jax.tree.leaves(well.params), jax.tree.leaves(before.params), strict=True)
    assert any(not np.array_equal(*pair) for pair in pairs)


def test_a_gradient_alone_that_is_not_finite_is_skipped_too():
    def kink(params, key, batch, part=None):
        return jnp.sqrt(params["w"] * batch["x"])  # finite at 0, with an infinite slope

    optimizer = optax.sgd(0.1)
    state = train.init_state(jax.random.key(0), {"w": jnp.zeros(1)}, optimizer)
    step = functools.partial(
        train.train_step, loss_fn=kink, optimizer=optimizer, rules=[averages.exponential(0.9)]
    )
    after, metrics = jax.jit(step)(state, {"x": np.ones(4, np.float32)})
    assert float(metrics["loss"]) == 0
    assert int(metrics["skipped"]) == 1
    assert float(after.params["w"][0]) == 0
