"""What the commands that evaluate a run share: its files, its data, and their pictures."""

import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxdiff import data, metrics, plots
from jaxdiff.files import atomic_write_array
from jaxdiff.recipes import Choice, Run, build

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EVALUATION_FILE, SAMPLER_TABLE = "evaluation.json", "sampler_table.json"
FOLDER = "evaluation"
"""Folder in the workdir for samples and parts that are kept in case a command is killed."""
NEIGHBOURS_FILE = f"{FOLDER}/neighbours.npz"
MAX_REAL = 10_000
"""Examples of each split that are used at most, unless a flag says otherwise."""


def real_data(run: Run, *, limit: int = MAX_REAL) -> tuple[np.ndarray, np.ndarray]:
    """Training and test examples as the run sees them; there may be no test examples."""
    dataset = build.dataset(run.config)
    train = data.stack(dataset.train, limit=limit, value_range=run.value_range)[0]
    if not len(dataset.test):
        return train, train[:0]
    return train, data.stack(dataset.test, limit=limit, value_range=run.value_range)[0]


def subset(examples: np.ndarray, n: int) -> np.ndarray:
    """A random choice of n examples in their order, always the same; all if there are no more."""
    if n >= len(examples):
        return examples
    return examples[np.sort(np.random.default_rng(0).permutation(len(examples))[:n])]


def write_neighbours(
    workdir: Path, run: Run, samples: np.ndarray, train: np.ndarray, *, shown: int = 64
) -> None:
    """Write the first samples, each with its nearest training example, for the report."""
    found = metrics.nearest_neighbours(samples[:shown], train)
    atomic_write_array(
        workdir / NEIGHBOURS_FILE,
        samples=samples[:shown],
        nearest=train[found.indices],
        distances=found.distances,
        value_range=np.array(run.value_range),
    )


def as_text(chosen: Choice) -> str:
    """A choice of a configuration as text.

    Example:
        >>> from jaxdiff.recipes import choice
        >>> as_text(choice("deis", order=3)), as_text(choice("heun"))
        ('deis (order 3)', 'heun')
    """
    options = ", ".join(f"{name} {value}" for name, value in chosen.options)
    return f"{chosen.name} ({options})" if options else chosen.name


def environment() -> dict[str, str]:
    """Versions of what computed the figures, and on what."""
    packages = ("jaxdiff", "jax", "jaxlib", "flax", "optax", "diffrax", "numpy")
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
        "platform": platform.platform(terse=True),
        "devices": f"{jax.device_count()} × {device.device_kind}",
    }


def sampler_figure(record: Mapping[str, Any]) -> "Figure":
    """Fréchet distance over evaluations, a line for each sampler, from ``sampler_table.json``."""
    series: dict[str, tuple[list[float], list[float]]] = {}
    for row in record["rows"]:
        if row["frechet"] is not None:
            xs, ys = series.setdefault(row["sampler"], ([], []))
            xs.append(row["evaluations"])
            ys.append(row["frechet"])
    return plots.lines_figure(
        series,
        x="evaluations of the network",
        y=f"Fréchet distance to test, {record['features']}",
        level=("data, as many", record["data"]),
    )
