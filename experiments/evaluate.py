"""Evaluate a trained run against its data: ``python -m experiments.evaluate --workdir=DIR``.

Every figure is reported with that of the data themselves, and with n and seed: a Fréchet distance
of few samples is large even between two halves of the data. Bits per dimension of the test split
are reported with their standard error and their kind: the evidence lower bound, and the likelihood
by the probability-flow ODE.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from tqdm import tqdm

from experiments.common import cli, drawing, figures
from experiments.common.loading import load_run
from jaxdiff import data, recipes
from jaxdiff.files import atomic_write, check_writable
from jaxdiff.recipes import BitsPerDim, Run, bounds, build, likelihoods
from jaxdiff.train.same_data import data_changes
from jaxdiff.typing import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
N = flags.DEFINE_integer("n", 1024, "Number of samples.", lower_bound=8)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the samples.", 0, cli.MAX_SEED)
MAX_REAL = flags.DEFINE_integer(
    "max_real", 10_000, "Use at most this many examples of each split.", lower_bound=8
)
DRAWS = flags.DEFINE_integer(
    "draws", 100, "Noisy draws of each test example for its bits per dimension.", lower_bound=1
)

ODE_DRAWS = flags.DEFINE_integer(
    "ode_draws", 1, "Solutions of the ODE for each test example; 0 leaves them out.", lower_bound=0
)
RTOL = flags.DEFINE_float(
    "rtol", 1e-4, "Tolerance of the ODE's solution.", lower_bound=1e-6, upper_bound=0.1
)


def main() -> None:
    """Read the flags, measure, write what was found as JSON and print it as a table."""
    if not WORKDIR.value:
        raise InputError("--workdir must be the folder of a run, got none")
    run = load_run(WORKDIR.value)
    path = Path(WORKDIR.value) / "evaluation.json"
    check_writable(path)
    dataset = build.dataset(run.config)
    _check_kind(run, dataset)
    changed = data_changes(Path(WORKDIR.value), dataset)
    if changed:
        print(f"the data differ from those of training: {'; '.join(changed)}")
    real_train = data.stack(dataset.train, limit=MAX_REAL.value, value_range=run.value_range)[0]
    real_test, held_out = real_train[:0], None
    if len(dataset.test):
        held_out = data.take_all(dataset.test, limit=MAX_REAL.value)
        real_test = data.to_floats(held_out[0], run.value_range) if run.is_image else held_out[0]
        bounds.check(run, *held_out)
        if ODE_DRAWS.value:
            likelihoods.check(run, *held_out, rtol=RTOL.value)
    x = drawing.draw_samples(run, N.value, seed=SEED.value)
    samples = data.to_floats(x, run.value_range) if dataset.is_image else x
    measured = figures.measure(samples, real_train, real_test, seed=SEED.value)
    bits = {}
    if held_out is not None:
        bits["bits_per_dim"] = _bits(recipes.bits_per_dim, run, *held_out, draws=DRAWS.value)
    if held_out is not None and ODE_DRAWS.value:
        by_ode = functools.partial(recipes.ode_bits_per_dim, rtol=RTOL.value)
        bits["ode_bits_per_dim"] = _bits(by_ode, run, *held_out, draws=ODE_DRAWS.value)
    record = figures.as_record(run, measured) | {"data_changed": changed} | bits
    atomic_write(path, json.dumps(record, indent=2) + "\n")
    print(figures.as_table(run, measured))
    for found in bits.values():
        print(_as_text(found))
    if held_out is None:
        print("bits/dim are omitted: there are no test examples")
    print(f"wrote {path}")


def _check_kind(run: Run, dataset: data.Dataset) -> None:
    """Refuse data that the run cannot be evaluated on.

    Raises:
        InputError: naming how they differ from the training data.
    """
    if dataset.shape != run.shape:
        raise InputError(
            f"{dataset.name} must have examples of shape {run.shape}, as in training, got "
            f"{dataset.shape}"
        )
    if run.config.model.class_conditional and dataset.num_classes != run.num_classes:
        raise InputError(
            f"{dataset.name} must have {run.num_classes} classes, as in training, got "
            f"{dataset.num_classes}"
        )


def _as_text(found: dict[str, Any]) -> str:
    """A figure and everything that it depends on, as text."""
    error = "" if found["std_error"] is None else f" ± {found['std_error']:.4f}"
    examples = (
        "1 test example, too few for an error" if found["n"] == 1 else f"{found['n']} test examples"
    )
    return (
        f"{found['bits']:.4f}{error} bits/dim of {examples}\n"
        f"  ({found['kind']}; {found['draws']} draws each, seed {found['seed']})"
    )


def _bits(
    measure: Callable[..., BitsPerDim], run: Run, x: np.ndarray, label: np.ndarray, *, draws: int
) -> dict[str, Any]:
    """Measure bits per dimension with a progress bar; return it with all that it depends on."""
    with tqdm(total=len(x) * draws, unit="draw", dynamic_ncols=True) as bar:
        found = measure(run, x, label, draws=draws, seed=SEED.value, on_batch=bar.update)
    return found._asdict() | {"draws": draws, "seed": SEED.value}


if __name__ == "__main__":
    cli.run(main)
