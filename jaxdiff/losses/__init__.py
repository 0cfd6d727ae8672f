"""L3: objectives. Each returns one number per example, ``[batch]``; reduction is the caller's."""

from jaxdiff.losses import times, weights
from jaxdiff.losses.denoising import denoising

__all__ = ["denoising", "times", "weights"]
