"""Evaluate a trained run against its data: ``python -m experiments.evaluate --workdir=DIR``.

Every figure stands beside what the data themselves reach, and beside the n and the seed that it
was measured with: a Fréchet distance of few samples is large even between two halves of the data.
Bits per dimension of the test split come with their standard error and their kind: the evidence
lower bound, and the likelihood by the probability-flow ODE.
"""

import json
from pathlib import Path
from typing import Any

from absl import flags

from experiments.common import bounds, cli, drawing, figures, likelihoods
from experiments.common.loading import load_run
from jaxdiff import data
from jaxdiff.files import atomic_write, check_writable
from jaxdiff.recipes import Run, build
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
        raise InputError("evaluation takes --workdir=DIR, got none")
    run = load_run(WORKDIR.value)
    path = Path(WORKDIR.value) / "evaluation.json"
    check_writable(path)
    dataset = build.dataset(run.config)
    _check_kind(run, dataset)
    changed = data_changes(Path(WORKDIR.value), dataset)
    if changed:
        print(f"the data are not those of the training: {'; '.join(changed)}")
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
        bound = bounds.bits_per_dim(run, *held_out, draws=DRAWS.value, seed=SEED.value)
        bits["bits_per_dim"] = _record(bound, DRAWS.value)
    if held_out is not None and ODE_DRAWS.value:
        by_ode = likelihoods.ode_bits_per_dim(
            run, *held_out, draws=ODE_DRAWS.value, rtol=RTOL.value, seed=SEED.value
        )
        bits["ode_bits_per_dim"] = _record(by_ode, ODE_DRAWS.value)
    record = figures.as_record(run, measured) | {"data_changed": changed} | bits
    atomic_write(path, json.dumps(record, indent=2) + "\n")
    print(figures.as_table(run, measured))
    for found in bits.values():
        print(_told(found))
    if held_out is None:
        print("bits/dim are left out: there are no test examples")
    print(f"wrote {path}")


def _check_kind(run: Run, dataset: data.Dataset) -> None:
    """Refuse data that the run cannot be held against.

    Raises:
        InputError: saying how they differ from what it was trained on.
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


def _told(found: dict[str, Any]) -> str:
    """A figure with all that it depends on, in words."""
    error = "" if found["std_error"] is None else f" ± {found['std_error']:.4f}"
    examples = (
        "1 test example, too few for an error" if found["n"] == 1 else f"{found['n']} test examples"
    )
    return (
        f"{found['bits']:.4f}{error} bits/dim of {examples}\n"
        f"  ({found['kind']}; {found['draws']} draws each, seed {found['seed']})"
    )


def _record(bound: bounds.Bound, draws: int) -> dict[str, Any]:
    """A figure with all that it depends on."""
    return bound._asdict() | {"draws": draws, "seed": SEED.value}


if __name__ == "__main__":
    cli.run(main)
