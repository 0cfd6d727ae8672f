"""Measurements of solvers on mixtures: distances to exact paths, and between distributions.

ODE solvers are measured by the distance of their samples to the exact ends of the same paths, the
median over samples; SDE solvers by the sliced 1-Wasserstein distance of their samples to the data.
"""

import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from experiments.studies.solvers.rows import GRIDS, MakeFn, Mixture, Sde, evaluations
from experiments.studies.solvers.tables import Errors
from jaxdiff import processes, solvers
from jaxdiff.processes import Process
from jaxdiff.recipes.names import TIME_GRIDS
from jaxdiff.typing import Array, Key

DIRECTIONS = 64
SDE_GRID = "logistic"


def measure(
    counts: Sequence[int],
    mixtures: Mapping[str, Mixture],
    sdes: Mapping[str, Sde],
    ode_solvers: Mapping[str, MakeFn],
    sde_solvers: Mapping[str, MakeFn],
    *,
    n: int,
    sde_n: int,
    seed: int,
) -> tuple[list[Errors], list[Errors], dict[str, float]]:
    """Measure ODE solvers on every time grid and every mixture, SDE solvers on one of each.

    Args:
        counts: numbers of evaluations.
        mixtures: by name; SDE solvers are measured on "2-D".
        sdes: by name, each with the time at which sampling ends.
        ode_solvers: by name, measured by their paths.
        sde_solvers: by name, measured by the distribution of their samples.
        n: samples that ODE solvers are measured on.
        sde_n: samples that SDE solvers are measured on.
        seed: of everything.

    Returns:
        Errors of ODE solvers, errors of SDE solvers, and for each problem of the latter the
        distance between two sets of its data.
    """
    ode: list[Errors] = []
    by_distribution: list[Errors] = []
    floor: dict[str, float] = {}
    start_key, sample_key, sde_key = jax.random.split(jax.random.key(seed), 3)
    per_sde = len(mixtures) * len(ode_solvers) + ("2-D" in mixtures) * len(sde_solvers)
    total = len(sdes) * per_sde
    with tqdm(total=total, unit="solver", dynamic_ncols=True) as bar:
        for problem, mixture in mixtures.items():
            for name, sde in sdes.items():
                process, t_min = sde
                x = _prior(start_key, process, (n, *mixture.means.shape[1:]))
                exact = _exact_ends(mixture, process, x, t_min)
                for solver, row in ode_solvers.items():
                    sampler = Sampler(mixture, process, row)
                    for grid in GRIDS:
                        ends = [sampler(sample_key, x, grid, count, t_min) for count in counts]
                        errors = [_distance(end, exact) for end in ends]
                        ode.append(Errors(problem, name, solver, grid, *_fitted(counts, errors)))
                    bar.update()
                if problem != "2-D":
                    continue
                rows, floor[f"{problem}, {name}"] = _distances(
                    sde_key, mixture, name, sde, counts, sde_solvers, bar, n=sde_n
                )
                by_distribution += rows
    return ode, by_distribution, floor


def _distances(
    key: Key,
    mixture: Mixture,
    name: str,
    sde: Sde,
    counts: Sequence[int],
    sde_solvers: Mapping[str, MakeFn],
    bar: tqdm,
    *,
    n: int,
) -> tuple[list[Errors], float]:
    """Distances of samples to data under one SDE, and between two sets of noisy data."""
    process, t_min = sde
    sample_key, prior_key, direction_key, *data_keys = jax.random.split(key, 7)
    data = [
        _noisy_data(k, j, mixture, process, t_min, n) for k, j in (data_keys[:2], data_keys[2:])
    ]
    x = _prior(prior_key, process, data[0].shape)
    rows = []
    for solver, row in sde_solvers.items():
        sampler = Sampler(mixture, process, row)
        ends = [sampler(sample_key, x, SDE_GRID, count, t_min) for count in counts]
        errors = tuple(_sliced_distance(direction_key, end, data[0]) for end in ends)
        rows.append(Errors("2-D", name, solver, SDE_GRID, errors, None))
        bar.update()
    return rows, _sliced_distance(direction_key, data[1], data[0])


class Sampler:
    """The driver's loop in Python: any number of steps shares one compiled step."""

    def __init__(self, mixture: Mixture, process: Process, make: MakeFn) -> None:
        self.process, self.evaluations = process, evaluations(make)
        self.solver = make(mixture.model(process), process)
        self.step = jax.jit(self.solver.step)

    def __call__(self, key: Key, x: Array, grid: str, count: int, t_min: float) -> Array | None:
        """Samples with at most ``count`` evaluations; None if they are too few for a step."""
        n = count // self.evaluations
        if n == 0:
            return None
        times = np.asarray(_times(self.process, n, t_min)[grid])
        state = self.solver.init(x, times[0])
        for k, t, s in zip(_split(key, n), times[:-1], times[1:], strict=True):
            state = self.step(k, state, t, s)
        return state.x


_prior = jax.jit(processes.sample_prior, static_argnums=2)


@functools.partial(jax.jit, static_argnums=1)
def _split(key: Key, n: int) -> list[Key]:
    return list(jax.random.split(key, n))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _times(process: Process, n: int, t_min: float) -> dict[str, Array]:
    """Every grid of n steps."""
    return {name: TIME_GRIDS[grid](process, n, t_min=t_min) for name, grid in GRIDS.items()}


@functools.partial(jax.jit, static_argnums=5)
def _noisy_data(
    noise_key: Key, data_key: Key, mixture: Mixture, process: Process, t_min: float, n: int
) -> Array:
    return processes.perturb(noise_key, process, mixture.draw(data_key, n), t_min).x_t


def _exact_ends(mixture: Mixture, process: Process, x: Array, t_min: float) -> Array:
    solver = solvers.adaptive(mixture.model(process), process, rtol=1e-10, atol=1e-10)
    ends = jnp.array([1.0, t_min])
    return jax.jit(lambda x: solver.step(jax.random.key(0), solver.init(x, ends[0]), *ends).x)(x)


def _distance(end: Array | None, exact: Array) -> float:
    """Root mean square over dimensions, median over samples."""
    if end is None:
        return float("nan")
    squares = (np.asarray(end) - np.asarray(exact)).reshape(len(exact), -1) ** 2
    return float(np.median(np.sqrt(np.mean(squares, axis=1))))


def _sliced_distance(key: Key, a: Array | None, b: Array) -> float:
    return float("nan") if a is None else float(_sliced(key, a, b))


@jax.jit
def _sliced(key: Key, a: Array, b: Array) -> Array:
    """Sliced 1-Wasserstein distance: the mean distance of projections over directions."""
    directions = jax.random.normal(key, (DIRECTIONS, a.shape[1]))
    directions /= jnp.linalg.norm(directions, axis=1, keepdims=True)
    gaps = jnp.sort(a @ directions.T, axis=0) - jnp.sort(b @ directions.T, axis=0)
    return jnp.mean(jnp.abs(gaps))


def _fitted(counts: Sequence[int], errors: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Errors, and the slope between the two largest numbers of evaluations."""
    change = np.log(errors[-2] / errors[-1]) / np.log(counts[-1] / counts[-2])
    return tuple(errors), float(change)
