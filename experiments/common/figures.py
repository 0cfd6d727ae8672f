"""Measurements of a model, each with the value that the data themselves reach."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from experiments.common.text import text_table
from jaxdiff import metrics
from jaxdiff.recipes import Run

NEIGHBOURS = 3
LEAST = {"frechet": 2, "precision": NEIGHBOURS + 1, "recall": NEIGHBOURS + 1, "nearest_distance": 1}
"""Minimum number of examples that a figure requires of each of its two sets."""


class Figure(NamedTuple):
    """One measured number, with what it was measured on; None if there are too few examples."""

    name: str
    value: float | None
    of: str
    against: str
    n_of: int
    n_against: int
    seed: int | None


def measure(
    samples: np.ndarray, real_train: np.ndarray, real_test: np.ndarray, *, seed: int
) -> list[Figure]:
    """Measure samples and training data in the same way against the test split.

    Args:
        samples: of the model, ``[n, ...]``.
        real_train: training examples, ``[m, ...]``.
        real_test: held-out examples, ``[k, ...]``; there may be none.
        seed: of the samples, for the record.

    Returns:
        Fréchet distance in the space of the data, precision and recall (k-NN, k = 3), and the
        median distance to the nearest training example: samples nearer to the training set than
        the test split is have been memorised. "train, n equal" is a random choice of as many
        training examples as there are samples, since all of these depend on n. If a set has fewer
        examples than a figure requires (``LEAST``), its value is None.
    """
    sets: dict[str, np.ndarray] = {"samples": samples, "train": real_train, "test": real_test}
    if len(samples) < len(real_train):
        chosen = np.random.default_rng(0).permutation(len(real_train))[: len(samples)]
        sets["train, n equal"] = real_train[np.sort(chosen)]

    def figures(
        names: tuple[str, ...],
        measured: Callable[[np.ndarray, np.ndarray], tuple[float, ...]],
        of: str,
        against: str,
    ) -> list[Figure]:
        x, reference = sets[of], sets[against]
        enough = min(len(x), len(reference)) >= max(LEAST[name] for name in names)
        values = measured(x, reference) if enough else (None,) * len(names)
        key = seed if of == "samples" else None
        return [
            Figure(name, value, of, against, len(x), len(reference), key)
            for name, value in zip(names, values, strict=True)
        ]

    found = []
    for of in [name for name in sets if name != "test"]:
        found += figures(("frechet",), _frechet, of, "test")
        found += figures(("precision", "recall"), _precision_recall, of, "test")
    for of in ("samples", "test"):
        found += figures(("nearest_distance",), _nearest_distance, of, "train")
    return found


def _frechet(x: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    return (metrics.frechet_distance(x, reference),)


def _precision_recall(x: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    return tuple(metrics.precision_recall(reference, x, k=NEIGHBOURS))


def _nearest_distance(x: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    return (float(np.median(metrics.nearest_distances(x, reference))),)


def as_table(run: Run, figures: list[Figure]) -> str:
    """Format the figures as a text table."""
    rows = [("figure", "of", "against", "value", "n", "seed")] + [
        (f.name, f.of, f.against, _value(f), f"{f.n_of} / {f.n_against}", _cell(f.seed))
        for f in figures
    ]
    sampling = run.config.sampling
    header = (
        f"{run.config.data.name}, {run.config.process.name}, step {run.step}, {run.average}, "
        f"{sampling.solver.name}, {sampling.num_steps} steps"
        + (" and a final denoising" if sampling.denoise else "")
    )
    return "\n".join([header, text_table(rows), *left_out(figures)])


def left_out(figures: list[Figure]) -> list[str]:
    """Which figures are missing, and how many examples they require: a line for each."""
    missing = {f.name for f in figures if f.value is None}
    return [
        f"-: {name} is omitted where a set has fewer than {LEAST[name]} examples"
        for name in LEAST
        if name in missing
    ]


def _value(figure: Figure) -> str:
    return "-" if figure.value is None else f"{figure.value:.4f}"


def _cell(value: int | None) -> str:
    return "" if value is None else str(value)


def as_record(run: Run, figures: list[Figure]) -> dict:
    """The same as JSON-serialisable content."""
    return {
        "step": run.step,
        "parameters": run.average,
        "config": run.config.as_dict(),
        "features": "the data themselves, in the range of the config",
        "neighbours": NEIGHBOURS,
        "figures": [f._asdict() for f in figures],
        "left_out": left_out(figures),
    }
