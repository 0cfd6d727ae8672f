"""Feature spaces that figures are measured in, by name: ``--features=pixels``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from absl import flags

from jaxdiff import data, metrics
from jaxdiff.data.inception_input import InceptionResize
from jaxdiff.nets.convert import load_inception
from jaxdiff.recipes import Run
from jaxdiff.tensors import file_sha256
from jaxdiff.typing import InputError

FEATURES = flags.DEFINE_multi_string(
    "features",
    ["pixels"],
    "Feature space of the figures, may be repeated: pixels; inception:FILE or "
    "inception-spatial:FILE, with the weights of the FID's Inception-v3 (.pth or .safetensors).",
)
RESIZE = flags.DEFINE_enum(
    "resize",
    "clean",
    ["clean", "legacy_pytorch", "legacy_tensorflow"],
    "How images are resized for Inception.",
)


class Extracted(NamedTuple):
    """Features ``[n, d]`` of a set, and class probabilities ``[n, classes]`` if there are any."""

    features: np.ndarray
    probabilities: np.ndarray | None = None


class FeatureSet(NamedTuple):
    """A feature space, and what it depends on.

    Args:
        name: for tables.
        extract: of examples as floats, ``[n, ...]``.
        weights: the file that holds the weights, or None.
        sha256: of that file.
        resize: how images are resized, or None.
    """

    name: str
    extract: Callable[[np.ndarray], Extracted]
    weights: str | None = None
    sha256: str | None = None
    resize: str | None = None

    def protocol(self) -> dict[str, str | None]:
        """What figures in this space depend on."""
        return {key: getattr(self, key) for key in ("name", "weights", "sha256", "resize")}


PIXELS = FeatureSet("pixels", lambda x: Extracted(np.asarray(x).reshape(len(x), -1)))
"""The space of the data."""


def feature_sets(names: Sequence[str], run: Run) -> list[FeatureSet]:
    """The feature spaces with these names, for examples of a run.

    Raises:
        InputError: if there is none of that name, or it does not fit the run.
    """
    return [_feature_set(name, run) for name in dict.fromkeys(names)]


def _feature_set(text: str, run: Run) -> FeatureSet:
    name, _, path = text.partition(":")
    if text == "pixels":
        return PIXELS
    if name in ("inception", "inception-spatial") and path:
        resize: Any = RESIZE.value
        return _inception(path, run, resize=resize, spatial=name == "inception-spatial")
    raise InputError(
        f"--features must be pixels, inception:FILE or inception-spatial:FILE, got {text!r}"
    )


def _inception(path: str, run: Run, *, resize: InceptionResize, spatial: bool) -> FeatureSet:
    """Pool features, for FID, KID and the Inception Score, or spatial ones, for sFID."""
    if not run.is_image or run.shape[-1] not in (1, 3):
        raise InputError(
            f"--features=inception requires images of 1 or 3 channels, got shape {run.shape}"
        )
    load_inception(path)  # is refused before anything is computed

    def extract(x: np.ndarray) -> Extracted:
        images = data.to_uint8(x, run.value_range)
        found = metrics.inception_features(path, images, resize=resize)
        if spatial:
            return Extracted(found.spatial.reshape(len(x), -1))
        return Extracted(found.pool, np.asarray(jax.nn.softmax(found.logits, axis=-1)))

    layer = "spatial" if spatial else "pool"
    name = f"inception-2015-12-05, {layer}, {resize}"
    return FeatureSet(name, extract, str(Path(path)), file_sha256(path), resize)
