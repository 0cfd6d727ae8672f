"""The tables of the solver comparison, for made-up errors."""

import math

import pytest

from experiments.common.text import text_table
from experiments.studies.solvers import pictures, tables
from experiments.studies.solvers.rows import GRIDS, ODE_SOLVERS, SDE_SOLVERS
from experiments.studies.solvers.tables import Errors
from jaxdiff.recipes.names import TIME_GRIDS

COUNTS = [10, 20, 70]
ROWS = [
    Errors("2-D", "VP", "Heun", "Karras", (8e-2, 2e-2, 1e-3), 2.4),
    Errors("2-D", "VP", "Heun", "uniform", (4e-2, 1e-2, 2e-3), 1.3),
    Errors("2-D", "VP", "RK4", "Karras", (math.nan, 5e-3, 1e-5), 5.0),
    Errors("2-D", "VE", "Heun", "Karras", (1e-2, 1e-2, 1e-2), 0.0),
    Errors("2-D", "VE", "Heun", "uniform", (2e-2, 4e-2, 1e-2), 1.1),
    Errors("2-D", "VE", "RK4", "Karras", (1e-2, 1e-3, 1e-4), 1.8),
]


def test_each_solver_is_listed_with_its_best_grid_at_few_evaluations():
    """70 are not few, so that uniform wins under VP; under VE Karras's grid does."""
    best = tables.on_best_grids(ROWS, COUNTS)
    assert [(row.sde, row.solver, row.grid) for row in best] == [
        ("VP", "Heun", "uniform"),
        ("VP", "RK4", "Karras"),
        ("VE", "Heun", "Karras"),
        ("VE", "RK4", "Karras"),
    ]


def test_winners_have_the_smallest_errors_next_to_heuns():
    lines = tables.as_winners(ROWS, COUNTS).splitlines()[2:]
    assert [line.split()[2:] for line in lines] == [
        ["10", "Heun", "uniform", "4.00e-02", "8.00e-02", "0.5"],
        ["20", "RK4", "Karras", "5.00e-03", "2.00e-02", "0.25"],
        ["70", "RK4", "Karras", "1.00e-05", "1.00e-03", "0.01"],
        ["10", "Heun", "Karras", "1.00e-02", "1.00e-02", "1"],
        ["20", "RK4", "Karras", "1.00e-03", "1.00e-02", "0.1"],
        ["70", "RK4", "Karras", "1.00e-04", "1.00e-02", "0.01"],
    ]


def test_the_ranking_is_by_geometric_means_in_units_of_heuns_errors():
    """Heun, uniform: ½ under VP and √(2·4) under VE. RK4 lacks an error and comes last."""
    lines = tables.as_ranking(ROWS, COUNTS).splitlines()[2:]
    assert [line.split() for line in lines] == [
        ["Heun", "Karras", "1.000", "1.000"],
        ["Heun", "uniform", f"{math.sqrt(0.5 * math.sqrt(8)):.3f}", f"{math.sqrt(8):.3f}"],
        ["RK4", "Karras", "inf", "inf"],
    ]


def test_tables_show_all_errors_and_no_slope_for_distributions():
    table = tables.as_table(ROWS[:3], COUNTS).splitlines()
    assert table[0].split() == ["solver", "grid", "10", "20", "70", "slope"]
    assert table[4].split() == ["RK4", "Karras", "nan", "5.00e-03", "1.00e-05", "5.00"]
    of_distributions = [row._replace(slope=None) for row in ROWS[:1]]
    assert tables.as_table(of_distributions, COUNTS).splitlines()[0].split()[-1] == "70"


@pytest.mark.parametrize("solver", [*ODE_SOLVERS, *SDE_SOLVERS])
def test_every_solver_has_its_own_colour(solver):
    assert any(solver.startswith(name.split(" .")[0]) for name in pictures.FAMILIES)


def test_the_default_of_the_configuration_is_among_the_rows():
    assert pictures.DEFAULT in ODE_SOLVERS
    assert tables.YARDSTICK[0] in ODE_SOLVERS
    assert {"logistic", tables.YARDSTICK[1]} <= set(GRIDS)
    assert set(GRIDS.values()) <= set(TIME_GRIDS)


def test_a_table_of_text_has_columns_as_wide_as_their_widest_cell():
    rows = [("solver", "x", "error"), ("DDIM", "Karras", "0.5"), ("η = ½", "", "")]
    assert text_table(rows) == (
        "solver  x       error\n"
        "---------------------\n"
        "DDIM    Karras  0.5\n"
        "η = ½"
    )  # fmt: skip
