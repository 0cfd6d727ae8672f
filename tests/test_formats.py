"""A run whose checkpoint has the first layout, from the version before players."""

import zipfile
from pathlib import Path

import chex
import jax
import numpy as np
import pytest
from players import player_of, shapes

from jaxdiff import recipes
from jaxdiff.recipes.diffusion import assemble
from jaxdiff.recipes.resuming import read_config
from jaxdiff.train.checkpoints import Checkpoints
from jaxdiff.train.formats import as_stored, from_stored
from jaxdiff.typing import InputError

STORED = Path(__file__).parent / "stored" / "checkpoint_format_1.zip"
# As printed by the version that wrote it.
SAMPLES = [[0.11550376564264297, -0.45135876536369324], [-0.7467293739318848, -0.2378663867712021]]
SUMS = {"Dense_1": 1.6916655162349343, "Dense_2": -4.1029889192432165}


@pytest.fixture
def workdir(tmp_path):
    zipfile.ZipFile(STORED).extractall(tmp_path)
    return tmp_path


def test_it_loads_with_the_numbers_that_were_saved(workdir):
    run = recipes.load(workdir)
    assert run.step == 2
    for name, expected in SUMS.items():
        kernel = np.asarray(run.params["params"][name]["kernel"], np.float64)
        assert np.sum(kernel) == expected
    np.testing.assert_allclose(run.sample(jax.random.key(0), 2), SAMPLES, rtol=1e-4)
    stored = recipes.load(workdir, ema_std=0.1)
    assert jax.tree.structure(stored.params) == jax.tree.structure(run.params)


def test_a_run_resumes_from_it_and_writes_the_current_layout(workdir):
    config, shape, num_classes = read_config(workdir)
    model = assemble(config, shape, num_classes)
    with Checkpoints(workdir, keep=config.training) as checkpoints:
        state = checkpoints.restore(shapes(model))
        later = state.replace(step=state.step + 1)
        checkpoints.save(3, later)
        checkpoints.wait()
        assert [checkpoints._format(step) for step in (2, 3)] == [1, 2]
        again = checkpoints.restore(shapes(model))
    chex.assert_trees_all_equal(player_of(again), player_of(state))


def test_every_part_of_a_state_keeps_its_place_in_the_first_layout(workdir):
    state = shapes(assemble(*read_config(workdir)))
    again = from_stored(as_stored(state, 1), state)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(state), strict=True):
        assert a is b


def test_a_later_format_is_distinguished_from_damage(workdir):
    model = assemble(*read_config(workdir))
    with pytest.raises(
        InputError, match="format must be at most 2, got 3, written by a newer version"
    ):
        as_stored(shapes(model), 3)
