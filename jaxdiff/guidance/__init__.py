"""L4: wrappers of a denoise_fn, each ``(denoise_fn, process, *, options) -> denoise_fn``.

A solver uses the wrapped model like any other. ``replacement`` and its two cases are projections
``(key, x, t) -> x`` instead, which :func:`jaxdiff.solvers.projected` applies after every step.
"""

from jaxdiff.guidance import inverse
from jaxdiff.guidance.classifier import classifier
from jaxdiff.guidance.classifier_free import (
    autoguidance,
    classifier_free,
    classifier_free_batched,
)
from jaxdiff.guidance.replacement import colourisation, inpainting, replacement
from jaxdiff.guidance.thresholding import clip_denoised, dynamic_threshold

__all__ = [
    "autoguidance",
    "classifier",
    "classifier_free",
    "classifier_free_batched",
    "clip_denoised",
    "colourisation",
    "dynamic_threshold",
    "inpainting",
    "inverse",
    "replacement",
]
