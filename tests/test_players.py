"""The loop trains arbitrary tasks: two players, two modules, a teacher, a history."""

import dataclasses
import functools
import json
import signal

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import toy_tasks
from players import bits, quiet
from quickly import first_is_quick
from running import forked

from jaxdiff import train
from jaxdiff.train import Turn, alternate
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.posthoc import average_of
from jaxdiff.typing import InputError


@functools.cache
def compiled(name, **layout):
    """``init``, ``step`` and the frozen parameters of a toy task, compiled once for all tests."""
    make, frozen = toy_tasks.TASKS[name]()
    init, step = make(**layout)
    return jax.jit(init), jax.jit(step), frozen


def stepped(name, steps=3, **layout):
    """The state after some steps of the bare algorithm, and the metrics."""
    init, step, frozen = compiled(name, **layout)
    state = init(jax.random.key(3))
    for k in range(steps):
        state, metrics = step(state, toy_tasks.batch_of(k), frozen)
    return state, metrics


@functools.cache
def fitted(name, folder):
    """The final state of an uninterrupted run of a toy task in its folder."""
    return train.fit(toy_tasks.task(name), folder / name, toy_tasks.SETTINGS, say=quiet)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("whole")


@pytest.mark.slow
@pytest.mark.parametrize("name", first_is_quick(toy_tasks.TASKS))
def test_a_stopped_or_killed_run_resumes_to_the_same_bits(name, folder, tmp_path):
    whole = fitted(name, folder)
    first = dataclasses.replace(toy_tasks.SETTINGS, num_steps=3)
    train.fit(toy_tasks.task(name), tmp_path / "cut", first, say=quiet)
    ended = train.fit(toy_tasks.task(name), tmp_path / "cut", toy_tasks.SETTINGS, say=quiet)
    assert bits(ended) == bits(whole)
    assert int(ended.step) == 6
    killed = forked("dying", name, str(tmp_path / "killed"))
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    lines = []
    ended = train.fit(
        toy_tasks.task(name), tmp_path / "killed", toy_tasks.SETTINGS, say=lines.append
    )
    assert lines[0].startswith("resuming from step 2 of 6")
    assert bits(ended) == bits(whole)
    other = toy_tasks.task(name)._replace(identity=train.plain_identity({"task": "other"}))
    with pytest.raises(InputError, match=r"holds a run with another config.*task: .* -> other"):
        train.fit(other, tmp_path / "cut", toy_tasks.SETTINGS, say=quiet)


def test_metrics_of_several_players_are_logged_by_their_names(folder):
    fitted("gan", folder)
    log = folder / "gan" / "metrics.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    names = {"critic/loss", "critic/grad_norm", "generator/loss", "generator/grad_norm", "skipped"}
    assert len(rows) == 6
    assert all(names <= row.keys() for row in rows)
    drawn = {path.name for path in log.parent.glob("*.png")}
    assert drawn == {"critic_loss.png", "generator_loss.png"}


@pytest.mark.parametrize("name", toy_tasks.TASKS)
def test_microbatches_add_up_to_the_step_of_the_whole_batch(name):
    (whole, metrics), (cut, split) = stepped(name), stepped(name, microbatches=4)
    parts = [(state.players, state.carry) for state in (cut, whole)]
    chex.assert_trees_all_close(*parts, rtol=1e-4, atol=1e-6)
    assert metrics.keys() == split.keys()


@pytest.mark.parametrize("name", toy_tasks.TASKS)
def test_a_batch_that_is_not_finite_makes_no_update(name):
    state, _ = stepped(name)
    _, step, frozen = compiled(name)
    bad = toy_tasks.batch_of(0)
    bad[3, 1] = np.nan
    after, metrics = step(state, bad, frozen)
    assert bits((after.players, after.carry)) == bits((state.players, state.carry))
    assert int(metrics["skipped"]) == int(after.skipped) == 1
    assert int(after.step) == int(state.step) + 1


def test_power_averages_are_stored_for_the_players_that_keep_them(tmp_path):
    settings = dataclasses.replace(toy_tasks.SETTINGS, ema_stds=(0.1,))
    state = train.fit(toy_tasks.task("gan"), tmp_path, settings, say=quiet)
    player = state.players["generator"]
    found = average_of(tmp_path, "generator", player.params, (0.1,), std=0.1, step=6)
    for name, expected in player.averages[-1].items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="averages of this run's parameters, got a mismatch: q"):
        average_of(tmp_path, "critic", state.players["critic"].params, (0.1,), std=0.1, step=6)


def test_a_damaged_checkpoint_of_several_players_falls_back_to_the_previous_one(tmp_path):
    """Also one whose format can no longer be read."""
    state, _ = stepped("gan")
    with Checkpoints(tmp_path, keep=toy_tasks.SETTINGS) as checkpoints:
        for step in (3, 4):
            checkpoints.save(step, state.replace(step=jnp.asarray(step, jnp.int32)))
    newest = tmp_path / "checkpoints" / "4"
    (newest / "_CHECKPOINT_METADATA").unlink()
    (newest / "default" / "manifest.ocdbt").write_bytes(b"")
    with (
        Checkpoints(tmp_path, keep=toy_tasks.SETTINGS) as checkpoints,
        pytest.warns(UserWarning, match=r"4, now .*, is damaged .* falling back to that of step 3"),
    ):
        found = checkpoints.restore(state)
    assert bits(found) == bits(state)


def test_a_student_converges_to_its_frozen_teacher(tmp_path):
    settings = dataclasses.replace(
        toy_tasks.SETTINGS, num_steps=300, log_every=100, checkpoint_every=300
    )
    task = toy_tasks.task("student")
    state = train.fit(task, tmp_path, settings, say=quiet)
    np.testing.assert_allclose(state.players["student"].params, task.frozen["teacher"], atol=1e-3)


def test_a_history_follows_the_recursion():
    """Losses by hand: the carry scales the gradient of the next step, not of its own."""
    state, _ = stepped("history", steps=4)
    mean, carry = np.zeros(2), 1.0
    for k in range(4):
        x = toy_tasks.batch_of(k).astype(np.float64)
        error = np.mean(np.sum((x - mean) ** 2, axis=1))
        mean, carry = mean + 0.2 * np.mean(x - mean, axis=0) / carry, 0.9 * carry + 0.1 * error
    np.testing.assert_allclose(state.players["mean"].params, mean, rtol=1e-5)
    np.testing.assert_allclose(state.carry, carry, rtol=1e-5)


def test_players_see_the_updates_of_those_before_them_and_can_repeat_their_turn():
    """Two numbers that follow each other: a ← a + (b − a)/2 twice, then b ← b + (a − b)/2."""

    def follow(other):
        def loss(params, view, key, batch, part):
            return jnp.full(len(batch), 0.5) * (params - view.params[other]) ** 2, ()

        return loss

    half = optax.sgd(1.0)  # the gradient of ½(a − b)²/2 is (a − b)/2
    turns = [
        Turn("a", _halved(follow("b")), half, repeats=2),
        Turn("b", _halved(follow("a")), half),
    ]
    init, step = alternate(lambda key: {"a": jnp.array(0.0), "b": jnp.array(8.0)}, turns)
    after, _ = step(init(jax.random.key(0)), jnp.zeros(4), ())
    assert float(after.players["a"].params) == 6.0
    assert float(after.players["b"].params) == 7.0


def test_a_player_that_repeats_its_turn_sees_its_own_updates():
    """Each repeat moves it by one from its current value: by two in a step, not by one."""

    def loss(params, view, key, batch, part):
        return 0.5 * (params - view.params["a"] - jnp.ones(len(batch))) ** 2, ()

    init, step = alternate(
        lambda key: {"a": jnp.array(0.0)}, [Turn("a", loss, optax.sgd(1.0), repeats=2)]
    )
    after, _ = step(init(jax.random.key(0)), jnp.zeros(4), ())
    assert float(after.players["a"].params) == 2.0


def test_auxiliary_outputs_of_rows_keep_their_order():
    def loss(params, view, key, batch, part):
        return params * batch, (batch, part.rows)

    init, step = alternate(
        lambda key: {"a": jnp.array(0.0)},
        [Turn("a", loss, optax.sgd(1.0))],
        carry=(jnp.zeros(12), jnp.zeros(12, int)),
        update_carry=lambda carry, aux: aux["a"],
        microbatches=3,
    )
    batch = jnp.arange(12.0) ** 2
    after, _ = step(init(jax.random.key(0)), batch, ())
    np.testing.assert_array_equal(after.carry[0], batch)
    np.testing.assert_array_equal(after.carry[1], np.arange(12))


def _halved(loss_fn):
    def halved(*args):
        loss, aux = loss_fn(*args)
        return 0.5 * loss, aux

    return halved


@pytest.mark.parametrize("names", [(), ("a", "a"), ("a",), ("a", "b", "c")])
def test_every_player_has_one_turn(names):
    turns = [Turn(name, lambda *_: (jnp.zeros(1), ()), optax.sgd(1.0)) for name in names]
    make = functools.partial(alternate, lambda key: {"a": jnp.zeros(()), "b": jnp.zeros(())}, turns)
    with pytest.raises(InputError, match="turns must be"):
        make().init(jax.random.key(0))
