"""A picture of fields of the plane beside the exact one: arrows, coloured by their error."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxdiff.plots import DATA, INK, new_figure, save_figure

COLUMNS = 6
WORST = 1.0
"""Relative error from which on arrows are drawn in the last colour."""


def draw_fields(
    path: Path, grid: np.ndarray, fields: Mapping[str, np.ndarray], *, points: np.ndarray
) -> None:
    """Draw each field over the data, coloured by its distance from the first.

    Arrows have the direction of the field and the logarithm of its length, since scores grow
    without bound away from the data. The error is ‖s − s*‖/(‖s*‖ + 1).

    Args:
        path: the PNG to write.
        grid: where the arrows start, ``[n, 2]``.
        fields: by name, each ``[n, 2]``; the first is the exact one.
        points: of the data, ``[m, 2]``.
    """
    exact = next(iter(fields.values()))
    rows = math.ceil(len(fields) / COLUMNS)
    columns = min(COLUMNS, len(fields))
    figure = new_figure(width=2.5 * columns + 0.9, height=2.65 * rows)
    figure.set_layout_engine("constrained")  # makes room for a colour bar
    reach = 1.08 * np.abs(grid).max()
    panels = []
    for index, (name, field) in enumerate(fields.items()):
        axes = figure.add_subplot(rows, columns, index + 1)
        panels.append(axes)
        length = np.linalg.norm(field, axis=1, keepdims=True)
        arrows = field / np.maximum(length, 1e-9) * np.log1p(length)
        error = np.linalg.norm(field - exact, axis=1) / (np.linalg.norm(exact, axis=1) + 1)
        axes.scatter(points[:, 0], points[:, 1], s=2, color=DATA, linewidths=0, alpha=0.25)
        (x, y), (u, v) = grid.T, arrows.T
        drawn = axes.quiver(
            x, y, u, v, error, cmap="viridis", clim=(0, WORST), width=0.007, scale=55
        )
        axes.set_title(name, fontsize=10, color=INK)
        axes.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        axes.spines[:].set_color("#bbbbbb")
    bar = figure.colorbar(drawn, ax=panels, fraction=0.015, pad=0.01, extend="max")
    bar.set_label("distance from the exact score / (its length + 1)", fontsize=10, color=INK)
    save_figure(figure, path)
