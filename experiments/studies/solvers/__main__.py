"""Error against evaluations of every solver: ``python -m experiments.studies.solvers``.

On two mixtures whose models are exact, under VP, sub-VP and VE. ODE solvers are measured by the
distance of their samples to the exact ends of the same paths, on every time grid: the median over
samples, since the few that start near the boundary between two modes end in the other mode at the
least error. SDE solvers are measured by the sliced 1-Wasserstein distance of the distribution of
their samples to the data's. The results are a table, ``solvers.json``, and two pictures: the errors
and the paths of the solvers.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
from absl import flags

from experiments.common import cli
from experiments.studies.solvers import pictures, tables
from experiments.studies.solvers.measuring import measure
from experiments.studies.solvers.rows import (
    ODE_SOLVERS,
    SDE_SOLVERS,
    SDES,
    MakeFn,
    Mixture,
    Sde,
    mixtures,
)
from jaxdiff.files import atomic_write, check_writable
from jaxdiff.plots import check_backend
from jaxdiff.train.memory import STEP, check_fits
from jaxdiff.typing import InputError, out_of

WORKDIR = flags.DEFINE_string("workdir", "runs/solvers", "Folder of the table and the pictures.")
COUNTS = flags.DEFINE_list("counts", ["10", "20", "35", "70", "140"], "Numbers of evaluations.")
N = flags.DEFINE_integer("n", 256, "Samples that ODE solvers are measured on.", lower_bound=2)
SDE_N = flags.DEFINE_integer(
    "sde_n", 20_000, "Samples that SDE solvers are measured on.", lower_bound=16
)
ONLY = flags.DEFINE_list("only", [], "Solvers by their names in the tables; all if empty.")
SDE_NAMES = flags.DEFINE_list(
    "sdes", ["VP", "sub-VP", "VE"], f"SDEs to compare the solvers under, of {', '.join(SDES)}."
)
MIXTURES = flags.DEFINE_list(
    "mixtures", ["2-D", "8×8×1"], "Mixtures to compare them on, of 2-D, 16-D and 8×8×1."
)
SEED = flags.DEFINE_integer("seed", 0, "Seed of everything.", 0, cli.MAX_SEED)

DOUBLE = 8


def main() -> None:
    """Measure, print the tables, write them and the pictures."""
    counts, sdes = _counts(COUNTS.value), _sdes(SDE_NAMES.value)
    _mixtures(MIXTURES.value)
    ode_solvers, sde_solvers = _chosen(ONLY.value)
    check_backend()
    for name, n in (("--n", N.value), ("--sde_n", SDE_N.value)):
        check_fits(name, n, n * 2 * DOUBLE)  # points of the plane
    check_fits("--counts", counts[-1], counts[-1] * STEP)
    workdir = Path(WORKDIR.value)
    names = ("solvers.json", "solvers.png", "trajectories.png")
    check_writable(*(workdir / name for name in names))
    with jax.enable_x64(True):
        ode, sde, floor = measure(
            counts,
            _mixtures(MIXTURES.value),  # again, in float64
            sdes,
            ode_solvers,
            sde_solvers,
            n=N.value,
            sde_n=SDE_N.value,
            seed=SEED.value,
        )
        pictures.draw_trajectories(workdir / "trajectories.png")
    best = tables.on_best_grids(ode, counts)
    record = {
        "counts": counts,
        "n": N.value,
        "sde_n": SDE_N.value,
        "seed": SEED.value,
        "ode": [row._asdict() for row in ode],
        "sde": [row._asdict() for row in sde],
        "sde_floor": floor,
    }
    atomic_write(workdir / "solvers.json", json.dumps(record, indent=2) + "\n")
    pictures.draw_errors(workdir / "solvers.png", counts, best, sde, floor)
    for problem, rows in tables.by_problem(best).items():
        print(f"{problem}: distance to the exact path, on each solver's best grid")
        print(tables.as_table(rows, counts) + "\n")
    for problem, rows in tables.by_problem(sde).items():
        print(f"{problem}: distance to the data; {floor[problem]:.4f} between two sets of data")
        print(tables.as_table(rows, counts) + "\n")
    if tables.YARDSTICK[0] in ode_solvers:
        print("the best at each number of evaluations")
        print(tables.as_winners(ode, counts) + "\n")
        print(f"all problems, at most {tables.EVALUATION_BUDGET} evaluations")
        print(tables.as_ranking(ode, counts) + "\n")
    for name in names:
        print(f"wrote {workdir / name}")


def _counts(texts: Sequence[str]) -> list[int]:
    counts = [int(text) if text.isdigit() else 0 for text in texts]
    if len(counts) < 2 or counts[0] < 4 or counts != sorted(set(counts)):
        raise InputError(
            "--counts must be two or more increasing numbers of evaluations, from 4, got "
            + ",".join(texts)
        )
    return counts


def _sdes(names: Sequence[str]) -> dict[str, Sde]:
    if not names or not set(names) <= set(SDES):
        raise InputError(f"--sdes must be names from {', '.join(SDES)}, got {','.join(names)!r}")
    return {name: sde for name, sde in SDES.items() if name in names}


def _mixtures(names: Sequence[str]) -> dict[str, Mixture]:
    known = mixtures()
    for name in names or [""]:
        if name not in known:
            raise InputError(f"--mixtures must be names from {out_of(name, known)}")
    return {name: known[name] for name in names}


def _chosen(names: Sequence[str]) -> tuple[dict[str, MakeFn], dict[str, MakeFn]]:
    """Solvers of the ODE and of the SDE, all or the named ones."""
    known = sorted({*ODE_SOLVERS, *SDE_SOLVERS})
    for name in names:
        if name not in known:
            raise InputError(f"--only must be names from {out_of(name, known)}")
    ode, sde = (
        {name: row for name, row in rows.items() if not names or name in names}
        for rows in (ODE_SOLVERS, SDE_SOLVERS)
    )
    return ode, sde


if __name__ == "__main__":
    cli.run(main)
