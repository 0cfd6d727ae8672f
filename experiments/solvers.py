"""Error against evaluations of every solver: ``python -m experiments.solvers``.

On two mixtures whose models are exact, under VP, sub-VP and VE. ODE solvers are measured by the
distance of their samples to the exact ends of the same paths, on every grid of times: the median of
samples, as the few that start next to a watershed end in another mode at the least error. SDE
solvers are measured by the sliced 1-Wasserstein distance of their law to the data's. A table,
``solvers.json``, and two pictures: the errors, and the paths that the solvers take.
"""

import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from tqdm import tqdm

from experiments import cli, solver_pictures, solver_tables
from experiments.solver_rows import (
    GRIDS,
    ODE_SOLVERS,
    SDE_SOLVERS,
    SDES,
    MakeFn,
    Mixture,
    Sde,
    evaluations,
    mixtures,
)
from experiments.solver_tables import Errors
from jaxdiff import processes, solvers
from jaxdiff.files import atomic_write, check_writable
from jaxdiff.processes import Process
from jaxdiff.train.memory import STEP, check_fits
from jaxdiff.train.pictures import check_backend
from jaxdiff.typing import Array, InputError, Key, out_of

WORKDIR = flags.DEFINE_string("workdir", "runs/solvers", "Folder of the table and the pictures.")
COUNTS = flags.DEFINE_list("counts", ["10", "20", "35", "70", "140"], "Numbers of evaluations.")
N = flags.DEFINE_integer("n", 256, "Samples that ODE solvers are measured on.", lower_bound=2)
LAW_N = flags.DEFINE_integer("law_n", 20_000, "Samples of each law.", lower_bound=16)
ONLY = flags.DEFINE_list("only", [], "Solvers by their names in the tables; all if empty.")
SDE_NAMES = flags.DEFINE_list(
    "sdes", ["VP", "sub-VP", "VE"], f"SDEs to compare the solvers under, of {', '.join(SDES)}."
)
MIXTURES = flags.DEFINE_list(
    "mixtures", ["2-D", "8×8×1"], "Mixtures to compare them on, of 2-D, 16-D and 8×8×1."
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of everything.", 0, cli.MAX_SEED)

DIRECTIONS = 64
LAW_GRID = "logistic"
DOUBLE = 8


def main() -> None:
    """Measure, print the tables, write them and the pictures."""
    counts, sdes = _counts(COUNTS.value), _sdes(SDE_NAMES.value)
    _mixtures(MIXTURES.value)
    ode_solvers, sde_solvers = _chosen(ONLY.value)
    check_backend()
    for name, n in (("--n", N.value), ("--law_n", LAW_N.value)):
        check_fits(name, n, n * 2 * DOUBLE)  # points of the plane
    check_fits("--counts", counts[-1], counts[-1] * STEP)
    workdir = Path(WORKDIR.value)
    names = ("solvers.json", "solvers.png", "trajectories.png")
    check_writable(*(workdir / name for name in names))
    with jax.enable_x64(True):
        ode, law, floor = measure(counts, sdes, ode_solvers, sde_solvers)
        solver_pictures.draw_trajectories(workdir / "trajectories.png")
    best = solver_tables.on_best_grids(ode, counts)
    record = {
        "counts": counts,
        "n": N.value,
        "law_n": LAW_N.value,
        "seed": SEED.value,
        "ode": [row._asdict() for row in ode],
        "law": [row._asdict() for row in law],
        "law_floor": floor,
    }
    atomic_write(workdir / "solvers.json", json.dumps(record, indent=2) + "\n")
    solver_pictures.draw_errors(workdir / "solvers.png", counts, best, law, floor)
    for problem, rows in solver_tables.by_problem(best).items():
        print(f"{problem}: distance to the exact path, on each solver's best grid")
        print(solver_tables.as_table(rows, counts))
    for problem, rows in solver_tables.by_problem(law).items():
        print(f"{problem}: distance of laws; {floor[problem]:.4f} between two sets of data")
        print(solver_tables.as_table(rows, counts))
    if solver_tables.YARDSTICK[0] in ode_solvers:
        print("the best at each number of evaluations")
        print(solver_tables.as_winners(ode, counts))
        print(f"all problems, at most {solver_tables.FEW} evaluations")
        print(solver_tables.as_ranking(ode, counts))
    for name in names:
        print(f"wrote {workdir / name}")


def measure(
    counts: Sequence[int],
    sdes: Mapping[str, Sde],
    ode_solvers: Mapping[str, MakeFn],
    sde_solvers: Mapping[str, MakeFn],
) -> tuple[list[Errors], list[Errors], dict[str, float]]:
    """Errors of ODE solvers on every grid, of laws on one, and the floor of laws."""
    ode: list[Errors] = []
    law: list[Errors] = []
    floor: dict[str, float] = {}
    start_key, walk_key, law_key = jax.random.split(jax.random.key(SEED.value), 3)
    walked = len(MIXTURES.value) * len(ode_solvers) + ("2-D" in MIXTURES.value) * len(sde_solvers)
    total = len(sdes) * walked
    with tqdm(total=total, unit="solver", dynamic_ncols=True) as bar:
        for problem, mixture in _mixtures(MIXTURES.value).items():
            for name, (process, t_min) in sdes.items():
                x = _prior(start_key, process, (N.value, *mixture.means.shape[1:]))
                exact = _exact_ends(mixture, process, x, t_min)
                for solver, row in ode_solvers.items():
                    walker = Walker(mixture, process, row)
                    for grid in GRIDS:
                        ends = [walker(walk_key, x, grid, n, t_min) for n in counts]
                        errors = [_distance(end, exact) for end in ends]
                        ode.append(Errors(problem, name, solver, grid, *_fitted(counts, errors)))
                    bar.update()
                if problem != "2-D":
                    continue
                rows, floor[f"{problem}, {name}"] = _laws(
                    law_key, mixture, name, counts, sde_solvers, bar
                )
                law += rows
    return ode, law, floor


def _laws(
    key: Key,
    mixture: Mixture,
    name: str,
    counts: Sequence[int],
    sde_solvers: Mapping[str, MakeFn],
    bar: tqdm,
) -> tuple[list[Errors], float]:
    """Distances of laws under one SDE, and that between two sets of noisy data."""
    process, t_min = SDES[name]
    walk_key, prior_key, direction_key, *data_keys = jax.random.split(key, 7)
    data = [
        _noisy_data(k, j, mixture, process, t_min, LAW_N.value)
        for k, j in (data_keys[:2], data_keys[2:])
    ]
    x = _prior(prior_key, process, data[0].shape)
    rows = []
    for solver, row in sde_solvers.items():
        walker = Walker(mixture, process, row)
        ends = [walker(walk_key, x, LAW_GRID, n, t_min) for n in counts]
        errors = tuple(_sliced_distance(direction_key, end, data[0]) for end in ends)
        rows.append(Errors("2-D", name, solver, LAW_GRID, errors, None))
        bar.update()
    return rows, _sliced_distance(direction_key, data[1], data[0])


class Walker:
    """The driver's loop in Python: walks of any number of steps share one compiled step."""

    def __init__(self, mixture: Mixture, process: Process, make: MakeFn) -> None:
        self.process, self.evaluations = process, evaluations(make)
        self.solver = make(mixture.model(process), process)
        self.step = jax.jit(self.solver.step)

    def __call__(self, key: Key, x: Array, grid: str, count: int, t_min: float) -> Array | None:
        """Ends of a walk of at most ``count`` evaluations; None if they are too few for a step."""
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
    return {name: grid(process, n, t_min) for name, grid in GRIDS.items()}


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
    """Sliced 1-Wasserstein distance: mean over directions of that of projections."""
    directions = jax.random.normal(key, (DIRECTIONS, a.shape[1]))
    directions /= jnp.linalg.norm(directions, axis=1, keepdims=True)
    gaps = jnp.sort(a @ directions.T, axis=0) - jnp.sort(b @ directions.T, axis=0)
    return jnp.mean(jnp.abs(gaps))


def _fitted(counts: Sequence[int], errors: Sequence[float]) -> tuple[tuple[float, ...], float]:
    """Errors, and the slope between the two largest numbers of evaluations."""
    change = np.log(errors[-2] / errors[-1]) / np.log(counts[-1] / counts[-2])
    return tuple(errors), float(change)


def _counts(texts: Sequence[str]) -> list[int]:
    counts = [int(text) if text.isdigit() else 0 for text in texts]
    if len(counts) < 2 or counts[0] < 4 or counts != sorted(set(counts)):
        raise InputError(
            "--counts takes two or more increasing numbers of evaluations, from 4, got "
            + ",".join(texts)
        )
    return counts


def _sdes(names: Sequence[str]) -> dict[str, Sde]:
    if not names or not set(names) <= set(SDES):
        raise InputError(f"--sdes takes names out of {', '.join(SDES)}, got {','.join(names)!r}")
    return {name: sde for name, sde in SDES.items() if name in names}


def _mixtures(names: Sequence[str]) -> dict[str, Mixture]:
    known = mixtures()
    for name in names or [""]:
        if name not in known:
            raise InputError(f"--mixtures takes names out of {out_of(name, known)}")
    return {name: known[name] for name in names}


def _chosen(names: Sequence[str]) -> tuple[dict[str, MakeFn], dict[str, MakeFn]]:
    """Solvers of the ODE and of the SDE, all or those that are named."""
    known = sorted({*ODE_SOLVERS, *SDE_SOLVERS})
    for name in names:
        if name not in known:
            raise InputError(f"--only takes names out of {out_of(name, known)}")
    ode, sde = (
        {name: row for name, row in rows.items() if not names or name in names}
        for rows in (ODE_SOLVERS, SDE_SOLVERS)
    )
    return ode, sde


if __name__ == "__main__":
    cli.run(main)
