"""L4: inverse problems: guide a model of x_0 by a measurement y = A(x_0) + s n of it.

Each method is a wrapper ``(denoise_fn, process, *, operator, y, …) -> denoise_fn``, for any
process, solver and batch size; bound by ``functools.partial`` it is a ``guide`` of ``run.sample``.
Methods that change the steps themselves are solvers: ``solvers.ddrm``, ``ddnm_plus``, ``repaint``
and ``twisted``.
"""

from jaxdiff.guidance.inverse.conjugate_gradients import Tolerance
from jaxdiff.guidance.inverse.ddnm import ddnm
from jaxdiff.guidance.inverse.diffpir import diffpir
from jaxdiff.guidance.inverse.dps import dps
from jaxdiff.guidance.inverse.masks import box_mask, random_mask
from jaxdiff.guidance.inverse.mmps import mmps
from jaxdiff.guidance.inverse.operators import (
    blur,
    downsample,
    gaussian_kernel,
    grey,
    mask,
    matrix,
    matrix_of,
    saturated,
)
from jaxdiff.guidance.inverse.pigdm import pigdm
from jaxdiff.guidance.inverse.spectrum import Spectrum, spectrum
from jaxdiff.guidance.inverse.tmpd import tmpd
from jaxdiff.guidance.inverse.twist import gaussian_twist

__all__ = [
    "Spectrum",
    "Tolerance",
    "blur",
    "box_mask",
    "ddnm",
    "diffpir",
    "downsample",
    "dps",
    "gaussian_kernel",
    "gaussian_twist",
    "grey",
    "mask",
    "matrix",
    "matrix_of",
    "mmps",
    "pigdm",
    "random_mask",
    "saturated",
    "spectrum",
    "tmpd",
]
