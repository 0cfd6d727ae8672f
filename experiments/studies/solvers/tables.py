"""Text tables of the comparison of solvers: errors, the best of each, the ranking."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from experiments.common.text import text_table

EVALUATION_BUDGET = 35
"""Number of evaluations up to which grids, and the default, are chosen."""
YARDSTICK = ("Heun", "Karras")
"""Solver and grid relative to whose errors the others are ranked: those of EDM."""


class Errors(NamedTuple):
    """Errors of one solver on one grid, per number of evaluations; NaN if too few for a step."""

    mixture: str
    sde: str
    solver: str
    grid: str
    errors: tuple[float, ...]
    slope: float | None  # of −log error over log evaluations, at the largest numbers

    @property
    def problem(self) -> str:
        """The mixture and the SDE."""
        return f"{self.mixture}, {self.sde}"


def by_problem(rows: Sequence[Errors]) -> dict[str, list[Errors]]:
    """Rows of each mixture under each SDE."""
    groups: dict[str, list[Errors]] = {}
    for row in rows:
        groups.setdefault(row.problem, []).append(row)
    return groups


def on_best_grids(rows: Sequence[Errors], counts: Sequence[int]) -> list[Errors]:
    """For each solver and problem, the row of the grid that is best at few evaluations."""
    groups: dict[tuple[str, str], list[Errors]] = {}
    for row in rows:
        groups.setdefault((row.problem, row.solver), []).append(row)
    return [min(group, key=_log_error(counts)) for group in groups.values()]


def as_table(rows: Sequence[Errors], counts: Sequence[int]) -> str:
    """Format errors as a text table, one line per solver."""
    cells = [("solver", "grid", *(str(n) for n in counts), "slope")]
    for row in rows:
        errors = (f"{e:.2e}" for e in row.errors)
        slope = "" if row.slope is None else f"{row.slope:.2f}"
        cells.append((row.solver, row.grid, *errors, slope))
    if all(row.slope is None for row in rows):
        cells = [line[:-1] for line in cells]
    return text_table(cells)


def as_winners(rows: Sequence[Errors], counts: Sequence[int]) -> str:
    """The best solver and grid at each number of evaluations, compared with the yardstick."""
    cells = [("problem", "evaluations", "best", "grid", "error", _name(YARDSTICK), "ratio")]
    for problem, group in by_problem(rows).items():
        heun = next(row for row in group if (row.solver, row.grid) == YARDSTICK)
        for index, count in enumerate(counts):
            error, best = min((row.errors[index], row) for row in group if row.errors[index] > 0)
            other = heun.errors[index]
            figures = f"{error:.2e}", f"{other:.2e}", f"{error / other:.2g}"
            cells.append((problem, str(count), best.solver, best.grid, *figures))
    return text_table(cells)


def as_ranking(rows: Sequence[Errors], counts: Sequence[int], *, lines: int = 12) -> str:
    """Rank solvers with their grids over all problems, by their error at few evaluations.

    Errors are relative to the yardstick's: the geometric mean over problems, and the worst.
    """
    error = _log_error(counts)
    heun = {row.problem: error(row) for row in rows if (row.solver, row.grid) == YARDSTICK}
    ratios: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        ratios.setdefault((row.solver, row.grid), []).append(error(row) - heun[row.problem])
    ranked = sorted(ratios.items(), key=lambda item: float(np.mean(item[1])))
    cells = [("solver", "grid", f"error / that of {_name(YARDSTICK)}", "at worst")]
    for (solver, grid), logs in ranked[:lines]:
        cells.append((solver, grid, f"{np.exp(np.mean(logs)):.3f}", f"{np.exp(max(logs)):.3f}"))
    return text_table(cells)


def _log_error(counts: Sequence[int]) -> Callable[[Errors], float]:
    """Mean log error at few evaluations; infinite if they are too few for a step."""

    def error(row: Errors) -> float:
        few = [e for n, e in zip(counts, row.errors, strict=True) if n <= EVALUATION_BUDGET]
        mean = float(np.mean(np.log(few or row.errors)))
        return mean if np.isfinite(mean) else float("inf")

    return error


def _name(row: tuple[str, str]) -> str:
    return " on ".join(row)
