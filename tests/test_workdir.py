"""A workdir belongs to one process at a time, whatever the process does in it."""

import contextlib
import dataclasses
import fcntl

import jax
import pytest
from running import run
from tiny import tiny_config

from jaxdiff import data, recipes
from jaxdiff.nets import convert
from jaxdiff.recipes import Run
from jaxdiff.recipes.diffusion import assemble, fresh_state
from jaxdiff.typing import InputError


@contextlib.contextmanager
def owned(workdir):
    """A new workdir locked by another process, which has written nothing yet."""
    workdir.mkdir()
    with open(workdir / ".lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_refused_start_leaves_no_config(tmp_path):
    workdir = tmp_path / "run"
    with owned(workdir), pytest.raises(InputError, match="in use by another process"):
        recipes.train(dataclasses.replace(tiny_config(), seed=7), workdir)
    assert not (workdir / "config.json").exists()


@pytest.mark.slow
def test_weights_are_not_written_into_a_workdir_in_use(tmp_path):
    config, digits = tiny_config(data=recipes.DataConfig(name="digits")), data.load("digits")
    model = Run(assemble(config, digits.shape, digits.num_classes))
    params = fresh_state(model.model).players["model"].params
    convert.save(tmp_path / "files", model.network, params)
    workdir = tmp_path / "run"
    flags = ["--config=tests/tiny.py", f"--read={tmp_path / 'files'}", f"--workdir={workdir}"]
    with owned(workdir):
        refused = run("experiments.weights", *flags)
    assert refused.returncode == 2
    assert "is in use by another process" in refused.stderr
    assert [path.name for path in workdir.iterdir()] == [".lock"]
    done = run("experiments.weights", *flags)
    assert done.returncode == 0, done.stderr
    found = recipes.load(workdir)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), found.params, params))
