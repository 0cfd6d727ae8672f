"""The notebooks run from the first cell to the last, on a training of a few steps."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from running import QUICKLY
from tiny import tiny_config

from jaxdiff import train
from jaxdiff.train import choice

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def digits_run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("notebook") / "digits"
    config = tiny_config(
        num_steps=3,
        data=train.DataConfig(name="digits"),
        network=choice("unet", channels=4, multipliers=(1,), blocks_per_level=1,
                       attention_levels=()),
    )  # fmt: skip
    train.train(config, workdir, say=lambda line: None)
    return workdir


def shorten(notebook, start, value):
    """Put another value into the cells that start so, and say how many there were."""
    cells = [cell for cell in notebook.cells if cell.source.startswith(start)]
    for cell in cells:
        cell.source = start + value
    return len(cells)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_shows_its_pictures(path, digits_run, monkeypatch):
    monkeypatch.delenv("MPLBACKEND", raising=False)  # or the kernel would draw for nobody
    for name, value in QUICKLY.items():
        monkeypatch.setenv(name.upper(), str(value))
    notebook = nbformat.read(path, as_version=4)
    short = {"WORKDIR = ": repr(str(digits_run)), "STEPS = ": "20", "N = ": "256"}
    replaced = [shorten(notebook, start, value) for start, value in short.items()]
    assert max(replaced) == 1  # a cell of its own for each number that says how long it takes
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert sum("image/png" in o.get("data", {}) for o in outputs) >= 4
