"""Measurements of a model, each with the value that the data themselves reach."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from experiments.common.evaluating import subset
from experiments.common.features import PIXELS, Extracted, FeatureSet
from experiments.common.text import text_table
from jaxdiff import metrics

NEIGHBOURS, DENSITY_NEIGHBOURS = 3, 5
"""k of precision and recall, and of density and coverage, as their papers have it."""
DATA, EQUAL = "train", "train, n equal"
"""Names of the training examples, and of a random choice of as many as there are samples."""

Measured = Callable[[np.ndarray, np.ndarray], tuple[float | metrics.Estimate, ...]]
"""``(x, reference) -> values``, each alone or with its standard error."""


Reference = Literal["test", "train"]


class Metric(NamedTuple):
    """What is measured together, and the least number of examples of each set for it."""

    names: tuple[str, ...]
    least: int
    measure: Measured


class Figure(NamedTuple):
    """One measured number, with what it was measured on; None if there are too few examples."""

    name: str
    value: float | None
    of: str
    against: str
    n_of: int
    n_against: int
    seed: int | None
    features: str = "pixels"
    std_error: float | None = None

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> "Figure":
        """A figure as ``evaluation.json`` holds it."""
        return cls(**stored)

    @property
    def title(self) -> str:
        """The name for people."""
        return TITLES.get(self.name, self.name.replace("_", " "))

    @property
    def shown(self) -> str:
        """The value as text."""
        return "-" if self.value is None else f"{self.value:.4f}"

    @property
    def cells(self) -> tuple[str, ...]:
        """A row of a table: see :data:`HEADINGS`."""
        error = "" if self.std_error is None else f"{self.std_error:.4f}"
        seed = "" if self.seed is None else str(self.seed)
        counts = f"{self.n_of} / {self.n_against}"
        return (self.name, self.features, self.of, self.against, self.shown, error, counts, seed)


TITLES = {
    "frechet": "Fréchet distance",
    "frechet_infinity": "Fréchet distance, n → ∞",
    "kid": "KID",
    "sliced_w2": "sliced W₂²",
    "nearest_distance": "median distance to the nearest",
    "authentic": "fraction that is no copy",
    "inception_score": "Inception Score",
    "vendi": "Vendi score",
}
HEADINGS = ("figure", "features", "of", "against", "value", "± error", "n", "seed")


def _frechet(x: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    return (metrics.frechet_distance(x, reference),)


def _precision_recall(x: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    return tuple(metrics.precision_recall(reference, x, k=NEIGHBOURS))


def _kid(x: np.ndarray, reference: np.ndarray) -> tuple[metrics.Estimate]:
    return (metrics.kid_full(x, reference),)


def _extrapolated(x: np.ndarray, reference: np.ndarray) -> tuple[metrics.Estimate]:
    found = metrics.frechet_infinity(x, reference, seed=0)
    return (metrics.Estimate(found.value, found.std_error),)


def _density_coverage(x: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    return tuple(metrics.density_coverage(reference, x, k=DENSITY_NEIGHBOURS))


def _sliced(x: np.ndarray, reference: np.ndarray) -> tuple[metrics.Estimate]:
    return (metrics.sliced_wasserstein(x, reference, seed=0),)


def _authentic(x: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    return (metrics.authenticity(reference, x),)


def _nearest_distance(x: np.ndarray, reference: np.ndarray) -> tuple[float, ...]:
    return (float(np.median(metrics.nearest_distances(x, reference))),)


DISTANCES = (
    Metric(("frechet",), 2, _frechet),
    Metric(("frechet_infinity",), 40, _extrapolated),
    Metric(("kid",), 4, _kid),
    Metric(("precision", "recall"), NEIGHBOURS + 1, _precision_recall),
    Metric(("density", "coverage"), DENSITY_NEIGHBOURS + 1, _density_coverage),
    Metric(("sliced_w2",), 1, _sliced),
)
"""Measured against the test split."""
SPLITS = 10
"""Of the Inception Score."""
COPYING = (
    Metric(("nearest_distance",), 1, _nearest_distance),
    Metric(("authentic",), 2, _authentic),
)
"""Measured against the training split."""
LEAST = {name: metric.least for metric in (*DISTANCES, *COPYING) for name in metric.names}


def measure(
    samples: np.ndarray,
    real_train: np.ndarray,
    real_test: np.ndarray,
    *,
    seed: int,
    features: FeatureSet = PIXELS,
    reference: Reference = "test",
) -> list[Figure]:
    """Measure samples and data in the same way against the test split, or the training split.

    Args:
        samples: of the model, ``[n, ...]``.
        real_train: training examples, ``[m, ...]``.
        real_test: held-out examples, ``[k, ...]``; there may be none.
        seed: of the samples, for the record.
        features: the space to measure in; the space of the data by default.
        reference: what distances are measured to; published FIDs use the training split.

    Returns:
        The figures of :data:`DISTANCES` to the reference, and those of :data:`COPYING`: samples
        nearer to the training set than the test split is have been memorised. "train, n equal" is a
        random choice of as many training examples as there are samples, since all of these depend
        on n. If a set has fewer examples than a figure requires, its value is None.
    """
    sets: dict[str, np.ndarray] = {"samples": samples, DATA: real_train, "test": real_test}
    if reference == "test" and len(samples) < len(real_train):
        sets[EQUAL] = subset(real_train, len(samples))
    extracted = {of: features.extract(x) for of, x in sets.items() if len(x)}

    def figure(what: str, found: Any, of: str, against: str) -> Figure:
        value, error = found if isinstance(found, tuple) else (found, None)
        drawn = seed if of == "samples" else None
        counts = len(sets[of]), len(sets[against])
        return Figure(what, value, of, against, *counts, drawn, features.name, error)

    def compared(metric: Metric, of: str, against: str) -> Iterator[Figure]:
        values: tuple[Any, ...] = (None,) * len(metric.names)
        if min(len(sets[of]), len(sets[against])) >= metric.least:
            values = metric.measure(extracted[of].features, extracted[against].features)
        for what, found in zip(metric.names, values, strict=True):
            yield figure(what, found, of, against)

    found: list[Figure] = []
    for of in [name for name in sets if name != reference and len(sets[name])]:
        for metric in DISTANCES:
            found += compared(metric, of, reference)
        found += [figure(what, value, of, of) for what, value in _alone(extracted[of]).items()]
    for of in ("samples", "test"):
        for metric in COPYING:
            found += compared(metric, of, DATA)
    return found


def _alone(extracted: Extracted) -> dict[str, Any]:
    """Figures of one set, without a reference."""
    x, probabilities = extracted
    values: dict[str, Any] = {}
    if np.linalg.norm(x, axis=1).all():
        values["vendi"] = metrics.vendi(x)
    if probabilities is not None and len(probabilities) >= SPLITS:
        score = metrics.inception_score(probabilities, splits=SPLITS, seed=0)
        values["inception_score"] = metrics.Estimate(score.mean, score.sd)
    return values


def as_table(figures: Sequence[Figure]) -> str:
    """Format the figures as a text table, and name those that are missing."""
    return "\n".join([text_table([HEADINGS, *(f.cells for f in figures)]), *left_out(figures)])


def left_out(figures: Sequence[Figure]) -> list[str]:
    """Which figures are missing, and how many examples they require: a line for each."""
    missing = {f.name for f in figures if f.value is None}
    return [
        f"-: {name} is omitted where a set has fewer than {LEAST[name]} examples"
        for name in LEAST
        if name in missing
    ]
