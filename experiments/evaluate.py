"""Evaluate a trained run against its data: ``python -m experiments.evaluate --workdir=DIR``.

Every figure stands beside what the data themselves reach, and beside the n and the seed that it
was measured with: a Fréchet distance of few samples is large even between two halves of the data.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from experiments import cli, drawing
from jaxdiff import data, metrics, train
from jaxdiff.train import Run
from jaxdiff.train.files import atomic_write
from jaxdiff.typing import InputError

WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
N = flags.DEFINE_integer("n", 1024, "Number of samples.", lower_bound=8)
SEED = flags.DEFINE_integer("seed", 0, "Seed of the samples.", lower_bound=0)
MAX_REAL = flags.DEFINE_integer(
    "max_real", 10_000, "Use at most this many examples of each split.", lower_bound=8
)
NEIGHBOURS = 3


class Figure(NamedTuple):
    """One measured number, with what it was measured on."""

    name: str
    value: float
    of: str
    against: str
    n_of: int
    n_against: int
    seed: int | None


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
    figures = measure(samples, real_train, real_test, seed=SEED.value)
    print(as_table(run, figures))
    path = Path(WORKDIR.value) / "evaluation.json"
    atomic_write(path, json.dumps(as_record(run, figures), indent=2) + "\n")
    print(f"wrote {path}")


def measure(
    samples: np.ndarray, real_train: np.ndarray, real_test: np.ndarray, *, seed: int
) -> list[Figure]:
    """Measure samples and training data alike against the test split.

    Args:
        samples: of the model, ``[n, ...]``.
        real_train: training examples, ``[m, ...]``.
        real_test: held-out examples, ``[k, ...]``.
        seed: of the samples, for the record.

    Returns:
        Fréchet distance in the space of the data, precision and recall (k-NN, k = 3), and the
        median distance to the nearest training example: samples nearer to the training set than
        the test split is have been memorised.
    """
    sets = {"samples": samples, "train": real_train, "test": real_test}

    def figure(name: str, value: float, of: str, against: str) -> Figure:
        drawn = seed if of == "samples" else None
        return Figure(name, value, of, against, len(sets[of]), len(sets[against]), drawn)

    figures = []
    for of in ("samples", "train"):
        near = metrics.precision_recall(real_test, sets[of], k=NEIGHBOURS)
        distance = metrics.frechet_distance(sets[of], real_test)
        figures += [
            figure("frechet", distance, of, "test"),
            figure("precision", near.precision, of, "test"),
            figure("recall", near.recall, of, "test"),
        ]
    for of in ("samples", "test"):
        median = float(np.median(metrics.nearest_distances(sets[of], real_train)))
        figures.append(figure("nearest_distance", median, of, "train"))
    return figures


def as_table(run: Run, figures: list[Figure]) -> str:
    """Lay the figures out for a person."""
    rows = [("figure", "of", "against", "value", "n", "seed")] + [
        (f.name, f.of, f.against, f"{f.value:.4f}", f"{f.n_of} / {f.n_against}",
         "" if f.seed is None else str(f.seed))
        for f in figures
    ]  # fmt: skip
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    sampling = run.config.sampling
    header = (
        f"{run.config.data.name}, {run.config.process.name}, step {run.step}, EMA "
        f"{run.config.training.ema_decay}, {sampling.solver.name}, {sampling.num_steps} steps"
    )
    return "\n".join([header, *(line.rstrip() for line in lines)])


def as_record(run: Run, figures: list[Figure]) -> dict:
    """The same for a machine."""
    return {
        "step": run.step,
        "parameters": "ema",
        "config": run.config.as_dict(),
        "features": "the data themselves, in the range of the config",
        "neighbours": NEIGHBOURS,
        "figures": [f._asdict() for f in figures],
    }


if __name__ == "__main__":
    cli.run(main)
