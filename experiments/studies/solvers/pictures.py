"""Two pictures of solvers: their errors against evaluations, and their paths."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxdiff
from jaxdiff import oracles, processes, schedules, solvers
from jaxdiff.plots import INK, new_figure, save_figure
from jaxdiff.processes import Process
from jaxdiff.solvers import Solver
from jaxdiff.typing import Array, Key

FAMILIES = {
    "DDIM": "#888888",
    "Heun": "#2e8b57",
    "RK4": "#111111",
    "DPM-Solver-": "#8c564b",
    "DPM-Solver++ .S": "#17a2b8",
    "DPM-Solver++ .M": "#1f6fb4",
    "UniPC": "#7b4fa3",
    "DEIS": "#e0620b",
    "ancestral": "#d1495b",
    "Euler": "#c9a20a",
    "reverse": "#b05fb0",
    "predictor": "#17a2b8",
    "SDE-DPM": "#1f6fb4",
}
"""Colours of solvers, by prefixes of their names; members of a family differ in line style."""
STROKES = ("-", "--", ":")
DEFAULT = "DEIS-tAB3"
PATHS = 14
T_MIN = 1e-3


def draw_errors(
    path: Path,
    counts: Sequence[int],
    ode: Sequence[Any],
    sde: Sequence[Any],
    floor: Mapping[str, float],
) -> None:
    """Draw log error over log evaluations: a panel per problem, a line per solver, with slopes.

    Args:
        path: the PNG to write.
        counts: numbers of evaluations.
        ode: rows with ``mixture``, ``sde``, ``solver``, ``grid``, ``errors`` and ``slope``.
        sde: such rows for distributions instead of paths.
        floor: for each problem of ``sde``, the distance between two sets of data.
    """
    titles = list(dict.fromkeys((row.mixture, row.sde) for row in ode))
    sde_titles = list(dict.fromkeys((row.mixture, row.sde) for row in sde))
    columns = len({name for _, name in titles + sde_titles})
    lines = (len(titles) + len(sde_titles)) // columns
    figure = new_figure(width=6.1 * columns, height=4.3 * lines)
    figure.set_layout_engine("constrained")
    panels = [(t, [r for r in ode if (r.mixture, r.sde) == t], "distance to the exact path")
              for t in titles]  # fmt: skip
    panels += [(t, [r for r in sde if (r.mixture, r.sde) == t], "distance to the data")
               for t in sde_titles]  # fmt: skip
    for index, (title, rows, quantity) in enumerate(panels):
        axes = figure.add_subplot(lines, columns, index + 1)
        families = [_family(row.solver) for row in rows]
        for place, (row, family) in enumerate(zip(rows, families, strict=True)):
            bold = row.solver == DEFAULT
            axes.loglog(
                counts,
                row.errors,
                "-" if bold else STROKES[families[:place].count(family)],
                marker="o",
                markersize=4.5 if bold else 3,
                linewidth=2.6 if bold else 1.2,
                color=FAMILIES[family],
                label=_label(row),
            )
        if quantity == "distance to the data":
            axes.axhline(floor[", ".join(title)], color="#999999", linestyle="--", linewidth=1)
        axes.set_title(f"{', '.join(title)}: {quantity}", fontsize=11, color=INK)
        axes.set_xticks(counts, [str(n) for n in counts], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_xlabel("evaluations of the model", fontsize=10, color=INK)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        axes.legend(
            fontsize=7.5, frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5),
            title="solver, grid: slope" if rows[0].slope else None, title_fontsize=8,
            alignment="left",
        )  # fmt: skip
    save_figure(figure, path)


def _family(solver: str) -> str:
    return next(name for name in FAMILIES if re.match(name.replace("+", "[+]"), solver))


def _label(row: Any) -> str:
    name = f"{row.solver}, {row.grid}"
    return name if row.slope is None else f"{name}: {row.slope:.1f}"


def draw_trajectories(path: Path) -> None:
    """Draw paths from noise to a mixture in one dimension, over the density at every time.

    Args:
        path: the PNG to write.
    """
    process = processes.VP()
    weights, means, stds = jnp.ones(3), jnp.array([[-1.3], [0.1], [1.0]]), jnp.full(3, 0.12)
    model = oracles.mixture(process, weights, means, stds)
    panels: list[tuple[str, Solver, int]] = [
        ("the probability-flow ODE, solved exactly", solvers.adaptive(model, process), 200),
        ("DDIM, 8 steps", solvers.ddim(model, process), 8),
        ("DEIS-tAB3, 8 steps", solvers.deis(model, process), 8),
        ("the reverse SDE, Euler–Maruyama, 400 steps", solvers.euler_maruyama(model, process), 400),
        ("ancestral sampling, 25 steps", solvers.ancestral(model, process), 25),
        ("halfway: DDIM, η = ½, 25 steps", solvers.ddim(model, process, eta=0.5), 25),
    ]

    @jax.jit
    def paths(key: Key) -> list[tuple[Array, Array]]:
        """Times and paths of every panel."""
        quantiles = (jnp.arange(PATHS) + 0.5) / PATHS
        x_init = process.sigma(1.0) * jax.scipy.stats.norm.ppf(quantiles)[:, None]
        grids = [schedules.logistic_times(process, n, t_min=T_MIN) for _, _, n in panels]
        return [
            (times, jaxdiff.trajectory(key, solver, x_init, times)[1])
            for (_, solver, _), times in zip(panels, grids, strict=True)
        ]

    grid_t, grid_x = np.linspace(0, 1, 300) ** 2, np.linspace(-3, 3, 300)
    density = np.asarray(jax.jit(_density)(process, means, stds, grid_t, grid_x))
    figure = new_figure(width=15.0, height=8.0)
    figure.set_layout_engine("constrained")
    drawn = zip(panels, paths(jax.random.key(0)), strict=True)
    for index, ((name, _, n), (times, saved)) in enumerate(drawn):
        axes = figure.add_subplot(2, 3, index + 1)
        axes.imshow(
            density**0.4,
            extent=(0, 1, -3, 3), origin="lower", aspect="auto", cmap="Blues", vmax=2.0,
        )  # fmt: skip
        marker = "o" if n <= 25 else None
        lines = axes.plot(
            np.sqrt(times), saved[..., 0], linewidth=0.9, marker=marker, markersize=2.5
        )
        for place, line in enumerate(lines):
            line.set_color("#c1440e" if place % 2 else "#2b2b2b")
        axes.set(xlim=(1, 0), ylim=(-3, 3), yticks=[-2, 0, 2])
        axes.set_title(name, fontsize=11, color=INK)
        axes.set_xlabel("√t, from noise to data", fontsize=9, color=INK)
    save_figure(figure, path)


def _density(process: Process, means: Array, stds: Array, t: Array, x: Array) -> Array:
    """Density of the noisy mixture, ``[x, t]``."""
    alpha, sigma = process.alpha(t)[:, None], process.sigma(t)[:, None]
    wide = jnp.sqrt((alpha * stds[None]) ** 2 + sigma**2)[None]
    centres = (alpha * means[:, 0][None])[None]
    return jnp.mean(jax.scipy.stats.norm.pdf(x[:, None, None], centres, wide), axis=2)
