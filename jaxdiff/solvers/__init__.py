"""L5: solvers, which step from t to s. One file per solver, each a ``Solver(init, step)``."""

from jaxdiff.solvers.adaptive import adaptive
from jaxdiff.solvers.ancestral import ancestral
from jaxdiff.solvers.base import Solver, State, one_step
from jaxdiff.solvers.ddim import ddim
from jaxdiff.solvers.ddim_inversion import ddim_inversion
from jaxdiff.solvers.ddnm_plus import ddnm_plus
from jaxdiff.solvers.ddrm import ddrm
from jaxdiff.solvers.deis import deis
from jaxdiff.solvers.dpmpp import dpmpp_1, dpmpp_2m, dpmpp_3m
from jaxdiff.solvers.euler_maruyama import euler_maruyama
from jaxdiff.solvers.heun import heun
from jaxdiff.solvers.langevin import annealed_langevin, langevin
from jaxdiff.solvers.predictor_corrector import predictor_corrector
from jaxdiff.solvers.projected import projected
from jaxdiff.solvers.repaint import repaint
from jaxdiff.solvers.reverse_diffusion import reverse_diffusion
from jaxdiff.solvers.rk4 import rk4
from jaxdiff.solvers.singlestep import dpm_2, dpm_3, dpmpp_2s, dpmpp_3s
from jaxdiff.solvers.stochastic_heun import stochastic_heun
from jaxdiff.solvers.twisted import (
    Particles,
    effective_sample_size,
    twisted,
)
from jaxdiff.solvers.unipc import unipc

__all__ = [
    "Particles",
    "Solver",
    "State",
    "adaptive",
    "ancestral",
    "annealed_langevin",
    "ddim",
    "ddim_inversion",
    "ddnm_plus",
    "ddrm",
    "deis",
    "dpm_2",
    "dpm_3",
    "dpmpp_1",
    "dpmpp_2m",
    "dpmpp_2s",
    "dpmpp_3m",
    "dpmpp_3s",
    "effective_sample_size",
    "euler_maruyama",
    "heun",
    "langevin",
    "one_step",
    "predictor_corrector",
    "projected",
    "repaint",
    "reverse_diffusion",
    "rk4",
    "stochastic_heun",
    "twisted",
    "unipc",
]
