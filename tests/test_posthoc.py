"""Averages that a run keeps and stores, and reconstruction of one that was not kept."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from flax import traverse_util
from jax.flatten_util import ravel_pytree
from players import made
from safetensors.numpy import load_file, save_file
from tiny import tiny_config

from jaxdiff import recipes
from jaxdiff.recipes.diffusion import PLAYER, assemble
from jaxdiff.recipes.resuming import identity_of
from jaxdiff.train import posthoc
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.workdir import write_content
from jaxdiff.typing import InputError

pytestmark = pytest.mark.slow

STDS, OTHER, UNKEPT = (0.05, 0.1), 0.08, 0.07
STEPS = 40


def with_training(config, **changes):
    return dataclasses.replace(config, training=dataclasses.replace(config.training, **changes))


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run that keeps all three averages, so that one of them can be left out afterwards."""
    config = with_training(
        tiny_config(num_steps=STEPS), log_every=STEPS,
        ema_stds=(*STDS, OTHER), other_ema_decays=(0.5,), checkpoint_every=5,
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("posthoc") / "run"
    recipes.train(config, folder, say=lambda line: None)
    return folder


def stored(workdir, std):
    """The average that the run itself tracked to its end, by name."""
    tensors = load_file(workdir / "averages" / f"{STEPS:09d}.safetensors")
    own = f"{PLAYER}/{std}:"
    return {n.removeprefix(own): v for n, v in tensors.items() if n.startswith(own)}


def by_name(params):
    return traverse_util.flatten_dict(jax.device_get(params), sep=".")


def distance(a, b):
    return np.sqrt(sum(np.sum((a[name] - b[name]) ** 2) for name in a | b))


def test_a_reconstructed_average_matches_that_of_a_run_that_keeps_it(workdir):
    like = recipes.load(workdir).params
    found = by_name(posthoc.average_of(workdir, PLAYER, like, STDS, std=OTHER, step=STEPS))
    followed, near = stored(workdir, OTHER), stored(workdir, 0.1)
    assert distance(found, followed) < 0.05 * distance(near, followed)


@pytest.mark.parametrize("std", STDS)
def test_stored_averages_are_reconstructed(workdir, std):
    found, expected = by_name(recipes.load(workdir, ema_std=std).params), stored(workdir, std)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6)


def flat(run):
    return np.asarray(ravel_pytree(jax.device_get(run.params))[0])


def test_each_kept_decay_can_be_loaded(workdir):
    runs = [recipes.load(workdir), recipes.load(workdir, ema_decay=0.9999)]
    np.testing.assert_array_equal(*map(flat, runs))
    assert not np.array_equal(flat(recipes.load(workdir, ema_decay=0.5)), flat(runs[0]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ema_decay": 0.9}, r"one that the run keeps, 0\.9999, 0\.5, got 0\.9"),
        ({"ema_std": 0.4}, r"must be in \(0, 0\.2886\) of the run"),
        ({"ema_std": 0.1, "ema_decay": 0.5}, "ema_decay or ema_std, not both, got 0.5 and 0.1"),
    ],
)
def test_an_unavailable_average_is_refused(workdir, options, message):
    with pytest.raises(InputError, match=message):
        recipes.load(workdir, **options)


def file_of(workdir, step):
    return workdir / "averages" / f"{step:09d}.safetensors"


def flip_one_bit(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("place", [-2, -1001, "fingerprint", "Dense_0.kernel"])
def test_an_average_with_one_flipped_bit_is_detected(workdir, tmp_path, place):
    """In a number, in its name, or in the fingerprint itself."""
    copy = shutil.copytree(workdir, tmp_path / "run")
    path = file_of(copy, STEPS)
    flip_one_bit(path, place if isinstance(place, int) else path.read_bytes().index(place.encode()))
    with pytest.raises(InputError, match=rf"{STEPS}\.safetensors is damaged.* rewrite it"):
        recipes.load(copy, ema_std=OTHER)
    assert flat(recipes.load(copy)).size  # it needs none of them


def test_a_damaged_average_of_an_earlier_step_is_skipped_with_a_warning(workdir, tmp_path):
    copy, without = (shutil.copytree(workdir, tmp_path / name) for name in ("run", "without"))
    file_of(without, 20).unlink()
    expected = flat(recipes.load(without, ema_std=UNKEPT))
    damages = (
        lambda path: flip_one_bit(path, -2),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: shutil.copy(file_of(copy, 25), path),  # intact, but of another step
    )
    for damage in damages:
        damage(file_of(copy, 20))
        with pytest.warns(UserWarning, match=r"000000020\.safetensors .* reconstructed without it"):
            np.testing.assert_array_equal(flat(recipes.load(copy, ema_std=UNKEPT)), expected)
    assert not np.array_equal(flat(recipes.load(workdir, ema_std=UNKEPT)), expected)


def test_averages_without_a_fingerprint_are_read_with_a_warning(workdir, tmp_path):
    copy = shutil.copytree(workdir, tmp_path / "run")
    save_file(load_file(file_of(copy, 20)), file_of(copy, 20))
    with pytest.warns(UserWarning, match=r"000000020\.safetensors has no fingerprint"):
        found = flat(recipes.load(copy, ema_std=OTHER))
    np.testing.assert_array_equal(found, flat(recipes.load(workdir, ema_std=OTHER)))


def test_loading_averages_of_a_run_without_any_is_refused(tmp_path):
    config, state = tiny_config(), made(assemble(tiny_config(), (2,), 2))
    write_content(tmp_path, identity_of(assemble(config, (2,), 2)).content)
    with Checkpoints(tmp_path, keep=config.training) as checkpoints:
        checkpoints.save(10, state.replace(step=state.step + 10))
    with pytest.raises(InputError, match=r"holds no averages of step 10.*got \(\)"):
        recipes.load(tmp_path, ema_std=0.1)
