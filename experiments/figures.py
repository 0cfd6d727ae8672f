"""What is measured of a model, each figure beside what the data themselves reach."""

from typing import NamedTuple

import numpy as np

from jaxdiff import metrics
from jaxdiff.train import Run

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
        the test split is have been memorised. "train, n equal" is a random choice of as many
        training examples as there are samples, since all of these depend on n.
    """
    sets: dict[str, np.ndarray] = {"samples": samples, "train": real_train, "test": real_test}
    if len(samples) < len(real_train):
        chosen = np.random.default_rng(0).permutation(len(real_train))[: len(samples)]
        sets["train, n equal"] = real_train[np.sort(chosen)]

    def figure(name: str, value: float, of: str, against: str) -> Figure:
        key = seed if of == "samples" else None
        return Figure(name, value, of, against, len(sets[of]), len(sets[against]), key)

    figures = []
    drawn = [name for name in sets if name != "test"]
    for of in drawn:
        near = metrics.precision_recall(real_test, sets[of], k=NEIGHBOURS)
        figures += [
            figure("frechet", metrics.frechet_distance(sets[of], real_test), of, "test"),
            figure("precision", near.precision, of, "test"),
            figure("recall", near.recall, of, "test"),
        ]
    for of in ("samples", "test"):
        median = float(np.median(metrics.nearest_distances(sets[of], real_train)))
        figures += [figure("nearest_distance", median, of, "train")]
    return figures


def as_table(run: Run, figures: list[Figure]) -> str:
    """Lay the figures out for a person."""
    rows = [("figure", "of", "against", "value", "n", "seed")] + [
        (f.name, f.of, f.against, f"{f.value:.4f}", f"{f.n_of} / {f.n_against}", _cell(f.seed))
        for f in figures
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    lines.insert(1, "-" * len(lines[0]))
    sampling = run.config.sampling
    header = (
        f"{run.config.data.name}, {run.config.process.name}, step {run.step}, {run.average}, "
        f"{sampling.solver.name}, {sampling.num_steps} steps"
        + (" and a final denoising" if sampling.denoise else "")
    )
    return "\n".join([header, *(line.rstrip() for line in lines)])


def _cell(value: int | None) -> str:
    return "" if value is None else str(value)


def as_record(run: Run, figures: list[Figure]) -> dict:
    """The same for a machine."""
    return {
        "step": run.step,
        "parameters": run.average,
        "config": run.config.as_dict(),
        "features": "the data themselves, in the range of the config",
        "neighbours": NEIGHBOURS,
        "figures": [f._asdict() for f in figures],
    }
