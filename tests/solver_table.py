"""The solvers that all test batteries run on: one entry adds a solver to all of them.

Entries stand next to the published form of each solver, in ``published_onestep.py`` and
``published_multistep.py``.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from jaxdiff.predictions import DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers import Solver


class SolverRow(NamedTuple):
    make: Callable[[DenoiseFn, Process], Solver]
    published: Callable[..., np.ndarray]  # the same sampler in numpy
    order: int  # weak order, for a solver that draws noise
    evaluations: int = 1  # of the network, in one step
    churn: float = 0.0  # η: amplitude of the noise; 0 is the ODE, 1 Anderson's SDE, nan neither
    memory: int = 0  # how many earlier steps a step uses
    noise_of_x: bool = False  # its noise is in units of x_t: it is a different solver in x/α
    in_time: bool = False  # interpolates in the process's own time, with the same consequence
    exact_mean: tuple[str, ...] = ()  # processes under which the mean of Gaussian data is exact
    inverse_order: float | None = None  # of the round trip, where it is below the order

    @property
    def deterministic(self):
        return self.churn == 0


SOLVERS: dict[str, SolverRow] = {}
QUICK = [
    *("ddim", "ancestral", "euler_maruyama", "heun"),
    *("dpmpp_2m", "sde_dpmpp_2m", "unipc_3", "deis_3"),
]
"""Those that -m "not slow" runs: with and without noise, stages and a memory."""


def entry(name, make, *, only_published=None, options=None, **fields):
    """Register a published sampler, and the library's solver that must match it.

    Args:
        name: of the row.
        make: the library's solver.
        options: of both.
        only_published: further options of the published sampler, which may serve many solvers.
        **fields: of the row.
    """
    options = options or {}

    def enter(sample):
        published = partial(sample, **options, **(only_published or {}))
        SOLVERS[name] = SolverRow(partial(make, **options), published, **fields)
        return sample

    return enter
