"""L4: wrappers of a denoise_fn, each ``(denoise_fn, process, *, options) -> denoise_fn``.

A solver uses the wrapped model like any other.
"""

from jaxdiff.guidance.thresholding import clip_denoised, dynamic_threshold

__all__ = ["clip_denoised", "dynamic_threshold"]
