"""L5: everything that walks from t to s. One file a solver, each a ``Solver(init, step)``."""

from jaxdiff.solvers.ancestral import ancestral
from jaxdiff.solvers.base import Solver, State, one_step
from jaxdiff.solvers.ddim import ddim
from jaxdiff.solvers.deis import deis
from jaxdiff.solvers.dpmpp import dpmpp_1, dpmpp_2m, dpmpp_3m
from jaxdiff.solvers.euler_maruyama import euler_maruyama
from jaxdiff.solvers.heun import heun
from jaxdiff.solvers.rk4 import rk4
from jaxdiff.solvers.singlestep import dpm_2, dpm_3, dpmpp_2s, dpmpp_3s
from jaxdiff.solvers.stochastic_heun import stochastic_heun
from jaxdiff.solvers.unipc import unipc

__all__ = [
    "Solver",
    "State",
    "ancestral",
    "ddim",
    "deis",
    "dpm_2",
    "dpm_3",
    "dpmpp_1",
    "dpmpp_2m",
    "dpmpp_2s",
    "dpmpp_3m",
    "dpmpp_3s",
    "euler_maruyama",
    "heun",
    "one_step",
    "rk4",
    "stochastic_heun",
    "unipc",
]
