"""L1: noise tables and time grids.

``tables`` holds the noise tables of discrete processes (β of DDPM, σ of NCSN), ``times`` the grids
on which a solver steps from noise (t = 1) to data (t = 0).
"""

from jaxdiff.schedules.inverse import time_at_log_snr
from jaxdiff.schedules.spacings import leading_times, linspace_times, trailing_times
from jaxdiff.schedules.tables import (
    constant_betas,
    cosine_betas,
    geometric_sigmas,
    linear_betas,
    quadratic_betas,
    sigmoid_betas,
    zero_terminal_snr,
)
from jaxdiff.schedules.times import (
    karras_times,
    log_snr_times,
    logistic_times,
    quadratic_times,
    uniform_times,
)

__all__ = [
    "constant_betas",
    "cosine_betas",
    "geometric_sigmas",
    "karras_times",
    "leading_times",
    "linear_betas",
    "linspace_times",
    "log_snr_times",
    "logistic_times",
    "quadratic_betas",
    "quadratic_times",
    "sigmoid_betas",
    "time_at_log_snr",
    "trailing_times",
    "uniform_times",
    "zero_terminal_snr",
]
