"""L5: everything that walks from t to s. One file a solver, each a ``Solver(init, step)``."""

from jaxdiff.solvers.ancestral import ancestral
from jaxdiff.solvers.base import Solver, State, one_step
from jaxdiff.solvers.ddim import ddim
from jaxdiff.solvers.euler_maruyama import euler_maruyama
from jaxdiff.solvers.heun import heun

__all__ = ["Solver", "State", "ancestral", "ddim", "euler_maruyama", "heun", "one_step"]
