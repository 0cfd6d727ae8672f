"""The notebooks run from the first cell to the last, with a few steps of training."""

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
from players import quiet
from tiny import digits_config

from jaxdiff import recipes

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
INLINE = "module://matplotlib_inline.backend_inline"
FEWER = {
    "01_first_samples": {
        "(0), 40)": "(0), 6)",
        "reshape(4, 10": "reshape(1, 6",
        "(1), 40)": "(1), 6)",
        "(2), 10": "(2), 6",
        '"ddim", "uniform", 50': '"ddim", "uniform", 5',
        '"heun", "karras", 18': '"heun", "karras", 5',
        '"deis", "logistic", 5': '"deis", "logistic", 2',
        '"deis", "logistic", 10': '"deis", "logistic", 2',
    },
    "02_objectives": {
        '"figure.constrained_layout.use": True': '"figure.constrained_layout.use": False',
        "N = 8192": "N = 225",
        "(0), 2500)": "(0), 225)",
        "side=120": "side=15",
        "T = 100": "T = 65",
        "1, 400)": "1, 65)",
        "1, 25)": "1, 65)",
        "STEPS = 1500": "STEPS = 20",
        "in (16, 256)]": "in (16, 64)]",
        "np.array([16, 64, 256, 1024])": "np.array([16, 64])",
        "np.array([16, 64, 256, 1024, 4096])": "np.array([16, 64])",
        "width=64, depth=2": "width=16, depth=1",
    },
    "03_samplers": {
        '"figure.constrained_layout.use": True': '"figure.constrained_layout.use": False',
        "np.arange(40)": "np.arange(12)",
        "N = 512": "N = 12",
        "steps(60)": "steps(10)",
        "steps(40)": "steps(10)",
        "[10, 20, 40, 80]": "[10, 10, 10]",
        "grid(p, 20)": "grid(p, 10)",
        "np.full(21": "np.full(11",
        "(process, 100": "(process, 10",
        '"deis", "num_steps": 20': '"deis", "num_steps": 2',
        '"deis", "num_steps": 10': '"deis", "num_steps": 2',
        '"deis", "num_steps": 6': '"deis", "num_steps": 2',
        '"ddim", "num_steps": 10': '"ddim", "num_steps": 5',
        "run.sample(noise, 10": "run.sample(noise, 6",
    },
}
"""Replacements that shorten each notebook; equal shapes share compiled code."""


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("notebook") / "digits"
    sampling = recipes.SamplingConfig(num_steps=2, num_images=6)
    recipes.train(digits_config(num_steps=3, sampling=sampling), workdir, say=quiet)
    return workdir


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Executes cells as a kernel does, which would be a separate process per notebook."""
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


def shorten(notebook, replacements):
    """Replace numbers in the cells, each of which occurs once."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for old, new in replacements.items():
        (cell,) = (cell for cell in cells if old in cell.source)
        assert cell.source.count(old) == 1
        cell.source = cell.source.replace(old, new)
    return [cell.source for cell in cells]


def pictures_of(shell, source):
    """Execute a cell, and count the figures that it shows."""
    with capture_output() as captured:
        result = shell.run_cell(source)
    result.raise_error()
    return sum("image/png" in shown.data for shown in captured.outputs)


def test_every_notebook_is_run():
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(FEWER)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Polyfit may be poorly conditioned")  # of so few points
@pytest.mark.parametrize("name", FEWER)
def test_a_notebook_runs_and_shows_its_pictures(name, digits_run, shell):
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    expected = sum(
        "image/png" in output.get("data", ())
        for cell in notebook.cells
        for output in cell.get("outputs", ())
    )
    trained = {'WORKDIR = "../runs/digits_vp"': f"WORKDIR = {str(digits_run)!r}"}
    sources = shorten(notebook, FEWER[name] | (trained if name != "02_objectives" else {}))
    shell.reset()
    # ranks are promoted, as they are for whoever opens a notebook
    with contextlib.chdir(NOTEBOOKS), plt.rc_context(), jax.numpy_rank_promotion("allow"):
        shown = sum(pictures_of(shell, source) for source in sources)
    assert shown == expected >= 4
