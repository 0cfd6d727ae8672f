"""Feature spaces that figures are measured in, by name: ``--features=pixels``."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from absl import flags

from jaxdiff.recipes import Run
from jaxdiff.typing import InputError

FEATURES = flags.DEFINE_multi_string(
    "features", ["pixels"], "Feature space of the figures: pixels."
)


class FeatureSet(NamedTuple):
    """A feature space, and what it depends on.

    Args:
        name: for tables.
        extract: examples as floats, ``[n, ...]``, to features ``[n, d]``.
        sha256: of the weights that extract them, or None.
        resize: how images are resized for them, or None.
        probabilities: examples to class probabilities ``[n, classes]``, for the Inception Score.
    """

    name: str
    extract: Callable[[np.ndarray], np.ndarray]
    sha256: str | None = None
    resize: str | None = None
    probabilities: Callable[[np.ndarray], np.ndarray] | None = None


def feature_sets(names: Sequence[str], run: Run) -> list[FeatureSet]:
    """The feature spaces with these names, for examples of a run.

    Raises:
        InputError: if there is none of that name, or its file cannot be read.
    """
    return [_feature_set(name, run) for name in dict.fromkeys(names)]


def _feature_set(text: str, run: Run) -> FeatureSet:
    name, _, _ = text.partition(":")
    if name == "pixels":
        return FeatureSet("pixels", lambda x: x.reshape(len(x), -1))
    raise InputError(f"--features must be pixels, got {text!r}")
