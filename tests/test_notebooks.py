"""The notebooks run from the first cell to the last, on a training of a few steps."""

import contextlib
import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
from matplotlib_inline.backend_inline import configure_inline_support
from tiny import tiny_config

from jaxdiff import train
from jaxdiff.train import choice

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
INLINE = "module://matplotlib_inline.backend_inline"


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("notebook") / "digits"
    config = tiny_config(
        num_steps=3,
        data=train.DataConfig(name="digits"),
        network=choice("dit", features=8, depth=1, heads=1, patch=4),
    )
    train.train(config, workdir, say=lambda line: None)
    return workdir


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """What executes the cells of a notebook in a kernel, which would be a process for each."""
    backend = plt.get_backend()
    with pytest.MonkeyPatch.context() as kept:
        kept.setenv("IPYTHONDIR", str(tmp_path_factory.mktemp("ipython")))
        kept.setitem(sys.modules, "__main__", sys.modules["__main__"])  # it becomes the notebook's
        kept.setattr(sys, "path", [*sys.path])
        shell = InteractiveShell.instance()
        plt.switch_backend(INLINE)
        configure_inline_support(shell, INLINE)
        yield shell
        plt.switch_backend(backend)
        InteractiveShell.clear_instance()


def shorten(notebook, start, value):
    """Put another value into the cells that start so, and say how many there were."""
    cells = [cell for cell in notebook.cells if cell.source.startswith(start)]
    for cell in cells:
        cell.source = start + value
    return len(cells)


def pictures_of(shell, cell):
    """Execute a cell, and count the pictures that it shows."""
    with capture_output() as captured:
        result = shell.run_cell(cell.source)
    result.raise_error()
    return sum("image/png" in shown.data for shown in captured.outputs)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_its_pictures(path, digits_run, shell):
    notebook = nbformat.read(path, as_version=4)
    short = {"WORKDIR = ": repr(str(digits_run)), "STEPS = ": "20", "N = ": "256"}
    replaced = [shorten(notebook, start, value) for start, value in short.items()]
    assert max(replaced) == 1  # a cell of its own for each number that says how long it takes
    shell.reset()
    shown = 0
    # ranks are promoted, as they are for whoever opens a notebook
    with contextlib.chdir(path.parent), plt.rc_context(), jax.numpy_rank_promotion("allow"):
        for cell in notebook.cells:
            if cell.cell_type == "code":
                shown += pictures_of(shell, cell)
    assert shown >= 4
