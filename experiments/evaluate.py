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

from experiments import bounds, cli, drawing, figures, likelihoods
from experiments.loading import load_run
from jaxdiff import data
from jaxdiff.files import atomic_write
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
    settings = run.config.data
    dataset = data.load(settings.name, data_dir=settings.data_dir or None)
    real_train, real_test = (
        data.stack(split, limit=MAX_REAL.value, value_range=run.value_range)[0]
        for split in (dataset.train, dataset.test)
    )
    x = drawing.draw_samples(run, N.value, seed=SEED.value)
    samples = data.to_floats(x, run.value_range) if dataset.is_image else x
    measured = figures.measure(samples, real_train, real_test, seed=SEED.value)
    held_out = data.take_all(dataset.test, limit=MAX_REAL.value)
    bound = bounds.bits_per_dim(run, *held_out, draws=DRAWS.value, seed=SEED.value)
    bits = {"bits_per_dim": _record(bound, DRAWS.value)}
    if ODE_DRAWS.value:
        by_ode = likelihoods.ode_bits_per_dim(
            run, *held_out, draws=ODE_DRAWS.value, rtol=RTOL.value, seed=SEED.value
        )
        bits["ode_bits_per_dim"] = _record(by_ode, ODE_DRAWS.value)
    path = Path(WORKDIR.value) / "evaluation.json"
    record = figures.as_record(run, measured) | bits
    atomic_write(path, json.dumps(record, indent=2) + "\n")
    print(figures.as_table(run, measured))
    for found in bits.values():
        print(
            f"{found['bits']:.4f} ± {found['std_error']:.4f} bits/dim of {found['n']} test "
            f"examples\n  ({found['kind']}; {found['draws']} draws each, seed {found['seed']})"
        )
    print(f"wrote {path}")


def _record(bound: bounds.Bound, draws: int) -> dict[str, Any]:
    """A figure with all that it depends on."""
    return bound._asdict() | {"draws": draws, "seed": SEED.value}


if __name__ == "__main__":
    cli.run(main)
