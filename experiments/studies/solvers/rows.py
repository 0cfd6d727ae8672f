"""What is compared: mixtures with exact models, SDEs, solvers and time grids.

An ODE has one exact end for every start, so its solvers are measured sample by sample against it.
SDE solvers only have a distribution, which is compared with that of the data.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import oracles, processes, solvers
from jaxdiff.extras import require
from jaxdiff.predictions import Denoised, DenoiseFn
from jaxdiff.processes import Process
from jaxdiff.solvers import Solver
from jaxdiff.typing import Array, ArrayLike, Key

MakeFn = Callable[[DenoiseFn, Process], Solver]


class Mixture(NamedTuple):
    """Equally likely Gaussians ``means [K, ...]`` with the same standard deviation."""

    means: Array
    std: float

    def model(self, process: Process) -> DenoiseFn:
        """The exact denoiser under a process."""
        ones = jnp.ones(len(self.means))
        return oracles.mixture(process, ones, self.means, self.std * ones)

    def draw(self, key: Key, n: int) -> Array:
        """Data, ``[n, ...]``."""
        pick_key, noise_key = jax.random.split(key)
        means = self.means[jax.random.randint(pick_key, (n,), 0, len(self.means))]
        return means + self.std * jax.random.normal(noise_key, means.shape)


def mixtures() -> dict[str, Mixture]:
    """Five points of a circle, ten random points, and fifty digits in [−1, 1], plus noise."""
    angles = np.linspace(0.0, 2 * np.pi, 5, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    require("sklearn", purpose="the mixture of digits")
    from sklearn.datasets import load_digits

    digits = load_digits().images[:50, :, :, None] / 8 - 1
    return {
        "2-D": Mixture(jnp.asarray(circle), 0.1),
        "16-D": Mixture(jnp.asarray(0.7 * np.random.default_rng(0).normal(size=(10, 16))), 0.2),
        "8×8×1": Mixture(jnp.asarray(digits), 0.1),
    }


class Sde(NamedTuple):
    """A process, and the time at which sampling ends."""

    process: Process
    t_min: float


SDES: Mapping[str, Sde] = {
    "VP": Sde(processes.VP(), 1e-3),
    "sub-VP": Sde(processes.SubVP(), 1e-3),
    "VE": Sde(processes.VE(), 1e-5),
    "VE to 80": Sde(processes.VE(0.002, 80.0), 1e-5),
}


def evaluations(make: MakeFn) -> int:
    """Number of model evaluations in a step of a solver, counted while it is traced.

    A last step to zero noise may need fewer. A loop inside a step is traced once and counts as one
    pass: for Langevin corrections this is exact, as the rows below make only one.
    """
    process, calls = processes.VP(), []

    def denoise_fn(x: Array, t: ArrayLike) -> Denoised:
        calls.append(t)
        return Denoised(x, x)

    def step(key: Key, x: Array, t: Array, s: Array) -> Any:
        solver = make(denoise_fn, process)
        return solver.step(key, solver.init(x, t), t, s)

    number = jax.ShapeDtypeStruct((), jnp.result_type(float))
    jax.eval_shape(step, jax.random.key(0), jnp.zeros((1, 1)), number, number)
    return len(calls)


ODE_SOLVERS: Mapping[str, MakeFn] = {
    "DDIM": solvers.ddim,
    "Heun": solvers.heun,
    "DPM-Solver-2": solvers.dpm_2,
    "DPM-Solver-3": solvers.dpm_3,
    "DPM-Solver++ 2S": solvers.dpmpp_2s,
    "DPM-Solver++ 3S": solvers.dpmpp_3s,
    "DPM-Solver++ 2M": solvers.dpmpp_2m,
    "DPM-Solver++ 3M": solvers.dpmpp_3m,
    "UniPC-1": functools.partial(solvers.unipc, order=1),
    "UniPC-2": functools.partial(solvers.unipc, order=2),
    "UniPC-3": functools.partial(solvers.unipc, order=3),
    "DEIS-tAB1": functools.partial(solvers.deis, order=2),
    "DEIS-tAB2": functools.partial(solvers.deis, order=3),
    "DEIS-tAB3": solvers.deis,
    "RK4": solvers.rk4,
}
SDE_SOLVERS: Mapping[str, MakeFn] = {
    "ancestral": solvers.ancestral,
    "DDIM, η = ½": functools.partial(solvers.ddim, eta=0.5),
    "Euler–Maruyama": solvers.euler_maruyama,
    "reverse diffusion": solvers.reverse_diffusion,
    "predictor–corrector": functools.partial(
        solvers.predictor_corrector,
        corrector=functools.partial(solvers.langevin, norms="batch"),
    ),
    "SDE-DPM-Solver++ 2M": functools.partial(solvers.dpmpp_2m, eta=1.0),
    "SDE-DPM-Solver++ 3M": functools.partial(solvers.dpmpp_3m, eta=1.0),
    "Heun with churn 0.1": functools.partial(solvers.stochastic_heun, churn=0.1),
    "DDIM": solvers.ddim,
    "DEIS-tAB3": solvers.deis,
}
GRIDS: Mapping[str, str] = {
    "uniform": "uniform",
    "quadratic": "quadratic",
    "log SNR": "log_snr",
    "Karras": "karras",
    "logistic": "logistic",
}
"""Time grids: from their names in the tables to those in a configuration."""
