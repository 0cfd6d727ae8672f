"""Evaluate a trained run against its data: ``python -m experiments.evaluate --workdir=DIR``.

Every figure stands beside what the data themselves reach, and beside the n and the seed that it
was measured with: a Fréchet distance of few samples is large even between two halves of the data.
Bits per dimension of the test split come with their standard error, and with the kind of bound.
"""

import json
from pathlib import Path

from absl import flags

from experiments import bounds, cli, drawing, figures
from jaxdiff import data, train
from jaxdiff.train.files import atomic_write
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


def main() -> None:
    """Read the flags, measure, print a table and write it as JSON."""
    if not WORKDIR.value:
        raise InputError("evaluation takes --workdir=DIR, got none")
    run = train.load(WORKDIR.value)
    settings = run.config.data
    dataset = data.load(settings.name, data_dir=settings.data_dir or None)
    real_train, real_test = (
        data.stack(split, limit=MAX_REAL.value, value_range=run.value_range)[0]
        for split in (dataset.train, dataset.test)
    )
    x = drawing.draw_samples(run, N.value, seed=SEED.value)
    samples = data.to_floats(x, run.value_range) if dataset.is_image else x
    measured = figures.measure(samples, real_train, real_test, seed=SEED.value)
    print(figures.as_table(run, measured))
    held_out = data.take_all(dataset.test, limit=MAX_REAL.value)
    bound = bounds.bits_per_dim(run, *held_out, draws=DRAWS.value, seed=SEED.value)
    print(
        f"{bound.bits:.4f} ± {bound.std_error:.4f} bits/dim of {bound.n} test examples\n"
        f"  ({bound.kind}; {DRAWS.value} draws each, seed {SEED.value})"
    )
    path = Path(WORKDIR.value) / "evaluation.json"
    record = figures.as_record(run, measured)
    record["bits_per_dim"] = bound._asdict() | {"draws": DRAWS.value, "seed": SEED.value}
    atomic_write(path, json.dumps(record, indent=2) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    cli.run(main)
