"""What is read back is what was saved, or nothing: damage of every kind, policies, full disks."""

import dataclasses
import shutil
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from net_tools import shapes_of
from players import bits, made, player_of, shapes, with_player
from running import files_of_at_most
from tiny import tiny_config

from jaxdiff import nets, recipes
from jaxdiff.recipes import Run
from jaxdiff.recipes.config import TrainingConfig
from jaxdiff.recipes.diffusion import algorithm, assemble
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.typing import InputError

EVAL = "eval_loss"


@pytest.fixture(scope="module")
def state():
    return made(assemble(tiny_config(), (2,), None))


@jax.jit
def at(state, step):
    """Another state for every step."""
    moved = jax.tree.map(lambda leaf: leaf + step, player_of(state).params)
    return with_player(state, params=moved).replace(step=state.step + step)


@pytest.fixture(scope="module")
def saved(state, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("saved")
    with Checkpoints(workdir, keep=TrainingConfig()) as checkpoints:
        for step in (10, 20):
            checkpoints.save(step, at(state, step))
    return workdir


def files(workdir, step):
    """The files of a checkpoint that hold something, largest last."""
    found = [p for p in (workdir / "checkpoints" / str(step)).rglob("*") if p.is_file()]
    return sorted((p for p in found if p.stat().st_size), key=lambda p: p.stat().st_size)


def restored(workdir, state, **options):
    with Checkpoints(workdir, **options) as checkpoints:
        return checkpoints.restore(state)


def test_the_newest_comes_back_to_the_bit(saved, state):
    assert bits(restored(saved, state)) == bits(at(state, 20))


def test_what_is_saved_outlives_the_state_which_the_next_step_takes_over(state, tmp_path):
    given = jax.tree.map(jax.numpy.copy, state)
    with Checkpoints(tmp_path, keep=TrainingConfig()) as checkpoints:
        checkpoints.save(int(state.step), given)
        jax.tree.map(lambda leaf: leaf.delete(), given)  # as donation does
    assert bits(restored(tmp_path, state)) == bits(state)


def test_what_is_saved_is_written_although_the_loop_ends_by_an_exception(state, tmp_path):
    def loop():
        with Checkpoints(tmp_path, keep=TrainingConfig()) as checkpoints:
            checkpoints.save(10, at(state, 10))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert bits(restored(tmp_path, state)) == bits(at(state, 10))


def test_what_was_saved_a_moment_ago_is_what_is_restored(state, tmp_path):
    with Checkpoints(tmp_path, keep=TrainingConfig()) as checkpoints:
        checkpoints.save(10, at(state, 10))
        assert bits(checkpoints.restore(state)) == bits(at(state, 10))


@pytest.mark.parametrize("seed", range(10))
def test_a_truncated_checkpoint_is_never_taken_for_whole(saved, state, tmp_path, seed):
    """Cut at a random offset of all its bytes: the one before is read instead, and it is said."""
    workdir = shutil.copytree(saved, tmp_path / "run")
    rng, all_files = np.random.default_rng(seed), files(workdir, 20)
    offset = rng.integers(sum(p.stat().st_size for p in all_files))
    for path in all_files:  # in which file the offset lies
        size = path.stat().st_size
        if offset < size:
            path.write_bytes(path.read_bytes()[:offset])
            break
        offset -= size
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = restored(workdir, state, keep=TrainingConfig())
    step = int(found.step)
    assert bits(found) == bits(at(state, step))  # whichever it is, it is whole
    said = [str(w.message) for w in told if "is damaged" in str(w.message)]
    assert (step == 20) == (not said)  # what was cut may be a file that nobody needs
    if said:
        assert "checkpoints/20" in said[0]
        assert "falling back to that of step 10" in said[0]
        assert (workdir / "damaged" / "20").is_dir()


@pytest.mark.slow
def test_numbers_altered_by_the_disk_are_not_taken_for_whole(saved, state, tmp_path):
    """Every byte of the data inverted in turn, in steps, so that some land in the numbers."""
    outcomes = set()
    largest = files(saved, 20)[-1]
    for part in range(12):
        workdir = shutil.copytree(saved, tmp_path / str(part))
        path = workdir / largest.relative_to(saved)
        content = bytearray(path.read_bytes())
        place = (2 * part + 1) * len(content) // 24
        content[place] ^= 0xFF
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = restored(workdir, state)
        step = int(found.step)
        assert bits(found) == bits(at(state, step))
        outcomes.add(step)
    assert 10 in outcomes


def test_numbers_altered_on_their_way_to_the_disk_are_not_taken_for_whole(
    state, tmp_path, monkeypatch
):
    """The sums of the files are right then: the fingerprint alone tells."""
    with Checkpoints(tmp_path, keep=TrainingConfig()) as checkpoints:
        checkpoints.save(10, at(state, 10))
        altered = player_of(at(state, 1)).params
        copy = "jaxdiff.train.checkpoints._copy"
        monkeypatch.setattr(copy, lambda given: with_player(given, params=altered))
        checkpoints.save(20, at(state, 20))
    with pytest.warns(UserWarning, match="its content differs from what was saved"):
        assert bits(restored(tmp_path, state)) == bits(at(state, 10))


def test_where_all_are_damaged_nothing_is_moved_and_it_is_said(saved, state, tmp_path):
    workdir = shutil.copytree(saved, tmp_path / "run")
    for step in (10, 20):
        for path in files(workdir, step):
            path.write_bytes(b"")
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read, and none was changed"):
        restored(workdir, state, keep=TrainingConfig())
    assert not (workdir / "damaged").exists()


@pytest.mark.parametrize(
    ("name", "other", "sentence"),
    [
        (
            "params",
            lambda leaf: leaf[..., :-1],
            r"bias in .*10 must be float32 of shape \(7,\) .*8",
        ),
        (
            "averages",
            lambda leaf: np.float16(leaf),
            r"bias .* must be float16 .* got float32 of sh",
        ),
    ],
)
def test_a_checkpoint_of_other_arrays_is_not_called_damaged(state, tmp_path, name, other, sentence):
    save(tmp_path, at(state, 10))
    like = with_player(state, **{name: jax.tree.map(other, getattr(player_of(state), name))})
    with pytest.raises(InputError, match=sentence + ".*is not damaged"):
        restored(tmp_path, like, keep=TrainingConfig())
    assert (tmp_path / "checkpoints" / "10").is_dir()


def described(tree):
    return [(leaf.dtype.name, leaf.shape) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize(
    "network",
    [
        nets.NCSNPP(channels=4, multipliers=(1, 2), blocks_per_level=1, num_classes=3),
        nets.DiT(features=16, depth=1, heads=2, num_classes=3),
        nets.MLP(width=8, depth=1, num_classes=3),
    ],
    ids=lambda network: type(network).__name__,
)
def test_parameters_are_single_precision_also_where_double_is_the_default(network):
    found = []
    for double in (False, True):
        with jax.enable_x64(double):
            given = jnp.zeros((1, 8, 8, 1)), jnp.ones(1), jnp.zeros(1, int)
            found.append(described(shapes_of(network.clone(embedding="fourier"), *given)))
    assert found[0] == found[1]
    assert {dtype for dtype, _ in found[0]} == {"float32"}


def test_a_state_and_what_a_step_makes_of_it_are_the_same_arrays_in_double_precision():
    settings = dataclasses.replace(tiny_config().training, ema_stds=(0.1,))
    config = tiny_config(training=settings, model=recipes.ModelConfig(noise_cond="fourier"))
    found = []
    for double in (False, True):
        with jax.enable_x64(double):
            run = Run(assemble(config, (2,), None))
            state = shapes(run.model)
            step = algorithm(run.model, microbatches=2).step
            after, _ = jax.eval_shape(step, state, {"x": jnp.zeros((4, 2), jnp.float32)})
            found += [described(state), described(after)]
    assert all(each == found[0] for each in found)
    assert {dtype for dtype, _ in found[0]} == {"float32", "int32", "key<fry>"}


def test_checkpoints_are_the_same_in_double_precision(tmp_path):
    config = tiny_config(model=recipes.ModelConfig(noise_cond="fourier"))
    states = {}
    for double in (False, True):
        with jax.enable_x64(double):
            states[double] = made(assemble(config, (2,), None))
            save(tmp_path / str(double), states[double])
    assert bits(states[True]) == bits(states[False])
    for double in (False, True):
        with jax.enable_x64(not double):
            assert bits(restored(tmp_path / str(double), states[not double])) == bits(
                states[double]
            )


def test_reading_alone_moves_nothing(saved, state, tmp_path):
    workdir = shutil.copytree(saved, tmp_path / "run")
    files(workdir, 20)[-1].write_bytes(b"")
    with pytest.warns(UserWarning, match="falling back to that of step 10"):
        assert int(restored(workdir, state).step) == 10
    assert (workdir / "checkpoints" / "20").is_dir()


@pytest.mark.slow
def test_the_last_every_so_manieth_and_the_best_are_kept(state, tmp_path):
    keep = TrainingConfig(keep_checkpoints=2, keep_every=30, keep_best=1)
    loss = {10: 5.0, 20: 1.0, 30: 4.0, 40: 3.0, 50: 2.0, 60: 6.0, 70: 7.0, 80: 8.0}
    with Checkpoints(tmp_path, keep=keep) as checkpoints:
        for step, value in loss.items():
            checkpoints.save(step, at(state, step), metrics={EVAL: value})
        checkpoints.wait()
        assert set(checkpoints.steps) == {20, 30, 60, 70, 80}


def save(workdir, state):
    with Checkpoints(workdir, keep=TrainingConfig()) as checkpoints:
        checkpoints.save(int(state.step), state)
        checkpoints.wait()


@pytest.mark.filterwarnings("ignore")  # what the writers leave behind
def test_a_disk_that_is_full_is_one_sentence_and_what_was_there_stays(state, tmp_path):
    """Files may grow to 200 bytes and no further, which fails as a full disk does."""
    save(tmp_path, at(state, 10))
    sentence = r"could not be written \(File too large\); that of step 10 is intact$"
    with files_of_at_most(200), pytest.raises(InputError, match=sentence):
        save(tmp_path, at(state, 20))
    assert bits(restored(tmp_path, state)) == bits(at(state, 10))


def test_a_best_without_a_measure_is_refused(tmp_path):
    settings = dataclasses.replace(tiny_config().training, keep_best=1)
    config = dataclasses.replace(tiny_config(), training=settings)
    with pytest.raises(
        InputError, match=r"keep_best must be 0 unless config\.training\.eval_every"
    ):
        recipes.train(config, tmp_path / "run", say=print)
    assert not (tmp_path / "run").exists()
