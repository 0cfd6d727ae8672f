"""A checkpoint is read back exactly or not at all: all kinds of damage, policies, full disks."""

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
    """A different state for every step."""
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
    """The nonempty files of a checkpoint, largest last."""
    found = [p for p in (workdir / "checkpoints" / str(step)).rglob("*") if p.is_file()]
    return sorted((p for p in found if p.stat().st_size), key=lambda p: p.stat().st_size)


def restored(workdir, state, **options):
    with Checkpoints(workdir, **options) as checkpoints:
        return checkpoints.restore(state)


def test_the_newest_is_restored_bit_for_bit(saved, state):
    assert bits(restored(saved, state)) == bits(at(state, 20))


def test_a_save_survives_donation_of_the_state_to_the_next_step(state, tmp_path):
    given = jax.tree.map(jax.numpy.copy, state)
    with Checkpoints(tmp_path, keep=TrainingConfig()) as checkpoints:
        checkpoints.save(int(state.step), given)
        jax.tree.map(lambda leaf: leaf.delete(), given)  # as donation does
    assert bits(restored(tmp_path, state)) == bits(state)


def test_a_save_is_written_even_if_the_loop_raises(state, tmp_path):
    def loop():
        with Checkpoints(tmp_path, keep=TrainingConfig()) as checkpoints:
            checkpoints.save(10, at(state, 10))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop()
    assert bits(restored(tmp_path, state)) == bits(at(state, 10))


def test_a_save_can_be_restored_immediately(state, tmp_path):
    with Checkpoints(tmp_path, keep=TrainingConfig()) as checkpoints:
        checkpoints.save(10, at(state, 10))
        assert bits(checkpoints.restore(state)) == bits(at(state, 10))


@pytest.mark.parametrize("seed", range(10))
def test_a_truncated_checkpoint_is_detected(saved, state, tmp_path, seed):
    """Cut at a random offset of all its bytes: the previous one is read, with a warning."""
    workdir = shutil.copytree(saved, tmp_path / "run")
    rng, all_files = np.random.default_rng(seed), files(workdir, 20)
    offset = rng.integers(sum(p.stat().st_size for p in all_files))
    for path in all_files:  # find the file that contains the offset
        size = path.stat().st_size
        if offset < size:
            path.write_bytes(path.read_bytes()[:offset])
            break
        offset -= size
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = restored(workdir, state, keep=TrainingConfig())
    step = int(found.step)
    assert bits(found) == bits(at(state, step))  # whichever it is, it is intact
    messages = [str(w.message) for w in caught if "is damaged" in str(w.message)]
    assert (step == 20) == (not messages)  # the file that was cut may be one that is not needed
    if messages:
        assert "checkpoints/20" in messages[0]
        assert "falling back to that of step 10" in messages[0]
        assert (workdir / "damaged" / "20").is_dir()


@pytest.mark.slow
def test_numbers_altered_on_the_disk_are_detected(saved, state, tmp_path):
    """Bytes of the data are inverted one at a time, at intervals, so that some hit the numbers."""
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


def test_numbers_altered_on_the_way_to_the_disk_are_detected(state, tmp_path, monkeypatch):
    """The checksums of the files are then correct: only the fingerprint detects it."""
    with Checkpoints(tmp_path, keep=TrainingConfig()) as checkpoints:
        checkpoints.save(10, at(state, 10))
        altered = player_of(at(state, 1)).params
        copy = "jaxdiff.train.checkpoints._copy"
        monkeypatch.setattr(copy, lambda given: with_player(given, params=altered))
        checkpoints.save(20, at(state, 20))
    with pytest.warns(UserWarning, match="its content differs from what was saved"):
        assert bits(restored(tmp_path, state)) == bits(at(state, 10))


def test_if_all_are_damaged_nothing_is_moved_and_an_error_is_raised(saved, state, tmp_path):
    workdir = shutil.copytree(saved, tmp_path / "run")
    for step in (10, 20):
        for path in files(workdir, step):
            path.write_bytes(b"")
    with pytest.raises(InputError, match=r"no checkpoint in .* can be read, and none was changed"):
        restored(workdir, state, keep=TrainingConfig())
    assert not (workdir / "damaged").exists()


@pytest.mark.parametrize(
    ("name", "other", "message"),
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
def test_a_checkpoint_of_other_arrays_is_not_called_damaged(state, tmp_path, name, other, message):
    save(tmp_path, at(state, 10))
    like = with_player(state, **{name: jax.tree.map(other, getattr(player_of(state), name))})
    with pytest.raises(InputError, match=message + ".*is not damaged"):
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


@pytest.mark.slow
def test_a_step_keeps_shapes_and_dtypes_in_double_precision():
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


@pytest.mark.slow
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


def test_reading_moves_nothing(saved, state, tmp_path):
    workdir = shutil.copytree(saved, tmp_path / "run")
    files(workdir, 20)[-1].write_bytes(b"")
    with pytest.warns(UserWarning, match="falling back to that of step 10"):
        assert int(restored(workdir, state).step) == 10
    assert (workdir / "checkpoints" / "20").is_dir()


@pytest.mark.slow
def test_the_newest_the_periodic_and_the_best_are_kept(state, tmp_path):
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


@pytest.mark.filterwarnings("ignore")  # from the abandoned writers
def test_a_full_disk_is_reported_and_old_checkpoints_stay(state, tmp_path):
    """Files are limited to 200 bytes, which fails in the same way as a full disk."""
    save(tmp_path, at(state, 10))
    message = r"could not be written \(File too large\); that of step 10 is intact$"
    with files_of_at_most(200), pytest.raises(InputError, match=message):
        save(tmp_path, at(state, 20))
    assert bits(restored(tmp_path, state)) == bits(at(state, 10))


def test_keep_best_without_evaluation_is_refused(tmp_path):
    settings = dataclasses.replace(tiny_config().training, keep_best=1)
    config = dataclasses.replace(tiny_config(), training=settings)
    with pytest.raises(
        InputError, match=r"keep_best must be 0 unless config\.training\.eval_every"
    ):
        recipes.train(config, tmp_path / "run", say=print)
    assert not (tmp_path / "run").exists()
