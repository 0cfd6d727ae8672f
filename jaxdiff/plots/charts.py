"""Charts of numbers: points of the plane next to the data, and a logged quantity over the steps."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdiff.checks import finite_array
from jaxdiff.plots.figures import (
    DATA,
    GRID,
    INK,
    SAMPLES,
    SPINE,
    PathLike,
    new_figure,
    save_figure,
)
from jaxdiff.typing import ArrayLike, InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (SAMPLES, "#e0620b", "#2e8b57", "#7b4fa3", "#d1495b", "#17a2b8")
"""Of lines, in their order; beyond them the stroke changes."""
STROKES = ("-", "--", ":")


def scatter(path: PathLike, samples: ArrayLike, *, reference: ArrayLike | None = None) -> None:
    """Draw points of the plane, next to a reference if given, on the same axes.

    With a reference, the window is 1.4 times as wide as the data, so that one stray sample does
    not shrink the rest to a dot; the title counts the samples outside.

    Args:
        path: the PNG to write.
        samples: ``[n, 2]``.
        reference: data ``[m, 2]``.

    Raises:
        InputError: if a set is empty, not of the plane, or not finite.

    Example:
        >>> import tempfile
        >>> scatter(tempfile.mkdtemp() + "/points.png", np.eye(2), reference=np.zeros((1, 2)))
    """
    panels = [("samples", _points("samples", samples), SAMPLES)]
    if reference is not None:
        panels.insert(0, ("data", _points("reference", reference), DATA))
    window = panels[0][1]
    centre = (window.max(axis=0) + window.min(axis=0)) / 2
    reach = np.ptp(window, axis=0).max() * (0.55 if reference is None else 0.7) or 1.0
    limits = np.stack([centre - reach, centre + reach])
    figure = new_figure(width=4.0 * len(panels), height=4.2)
    for i, (name, points, colour) in enumerate(panels):
        axes = figure.add_subplot(1, len(panels), i + 1)
        outside = np.count_nonzero((np.abs(points - centre) > reach).any(axis=1))
        note = f", {outside:,} outside" if outside else ""
        alpha = min(0.8, max(0.1, 30 / math.sqrt(len(points))))  # dense sets show their density
        axes.scatter(points[:, 0], points[:, 1], s=6, color=colour, linewidths=0, alpha=alpha)
        axes.set_title(f"{name} ({len(points):,}{note})", fontsize=11, color=INK)
        axes.set(xlim=limits[:, 0], ylim=limits[:, 1], aspect="equal")
        _plain(axes)
    save_figure(figure, path)


def curve(
    path: PathLike,
    rows: Sequence[Mapping[str, Any]],
    *,
    x: str = "step",
    y: str = "loss",
    log: bool = True,
) -> None:
    """Draw a logged quantity: every point faint, the running median bold.

    The median is over a window of 1/20 of the points, shorter at both ends; it is robust to
    outliers and does not lag. Rows without a finite x and y are left out, and the title counts
    those that had a y.

    Args:
        path: the PNG to write.
        rows: one mapping per logged step, as ``read_lines_json`` returns them.
        x: name of the quantity on the x axis.
        y: name of the quantity on the y axis.
        log: whether the y axis is logarithmic if all values are positive.

    Raises:
        InputError: if no row has both, finite.

    Example:
        >>> import tempfile
        >>> rows = [{"step": i, "loss": 1 / (i + 1)} for i in range(50)]
        >>> curve(tempfile.mkdtemp() + "/loss.png", rows)
    """
    save_figure(curve_figure(rows, x=x, y=y, log=log), path)


def curve_figure(
    rows: Sequence[Mapping[str, Any]], *, x: str = "step", y: str = "loss", log: bool = True
) -> "Figure":
    """The figure that :func:`curve` writes, from the same arguments.

    Raises:
        InputError: if no row has both quantities, finite.

    Example:
        >>> figure = curve_figure([{"step": i, "loss": 1 / (i + 1)} for i in range(50)])
        >>> figure.axes[0].get_yscale()
        'log'
    """
    logged = [(row.get(x), row[y]) for row in rows if y in row]
    points = np.array(logged, dtype=np.float64).reshape(-1, 2)  # None, as JSON has it, is NaN here
    finite = np.isfinite(points).all(axis=1)
    if not finite.any():
        raise InputError(f"rows must hold a finite {x!r} and {y!r}, got none in {len(rows)} rows")
    dropped = len(points) - np.count_nonzero(finite)
    points = points[finite][np.argsort(points[finite, 0], kind="stable")]
    figure = new_figure(width=6.4, height=4.0)
    axes = figure.add_subplot()
    axes.plot(points[:, 0], points[:, 1], "o-", ms=2.5, mew=0, lw=0.8, color=SAMPLES, alpha=0.25)
    axes.plot(*_running_median(points).T, color=SAMPLES, linewidth=2.0)
    if log and (points[:, 1] > 0).all():
        axes.set_yscale("log")
    axes.set_xlabel(x, fontsize=11, color=INK)
    axes.set_ylabel(y, fontsize=11, color=INK)
    if dropped:
        axes.set_title(f"left out: {dropped:,} not finite", fontsize=10, color="#b03a2e")
    _plain(axes)
    return figure


def lines_figure(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    x: str,
    y: str,
    level: tuple[str, float] | None = None,
) -> "Figure":
    """A figure of several quantities over a common one, both axes logarithmic, named in a legend.

    Args:
        series: ``{name: (x, y)}``, both ``[n]`` and positive; each in the order of x.
        x: label of the x axis.
        y: label of the y axis.
        level: name and value of a dotted line, such as the best attainable one.

    Raises:
        InputError: if there is no series, or a number is not positive and finite.

    Example:
        >>> figure = lines_figure({"heun": ([4, 8], [0.2, 0.1])}, x="evaluations", y="error")
        >>> figure.axes[0].get_xlabel()
        'evaluations'
    """
    if not series:
        raise InputError("series must hold at least one line, got none")
    figure = new_figure(width=6.4, height=4.0)
    axes = figure.add_subplot()
    for index, (name, pair) in enumerate(series.items()):
        points = [
            finite_array(f"{axis} of {name}", np.asarray(a))
            for axis, a in zip("xy", pair, strict=True)
        ]
        if not all((a > 0).all() for a in points):
            raise InputError(
                f"x and y of {name} must be positive, got {min(a.min() for a in points)}"
            )
        style = STROKES[index // len(COLOURS) % len(STROKES)]
        colour = COLOURS[index % len(COLOURS)]
        axes.loglog(*points, style, marker="o", ms=4, lw=1.6, color=colour, label=name)
    if level is not None:
        axes.axhline(level[1], color=INK, linestyle=":", linewidth=1.2, label=level[0])
    ticks = sorted({float(v) for xs, _ in series.values() for v in np.asarray(xs)})
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel(x, fontsize=11, color=INK)
    axes.set_ylabel(y, fontsize=11, color=INK)
    axes.legend(fontsize=9, frameon=False, labelcolor=INK)
    _plain(axes)
    return figure


def _points(name: str, x: ArrayLike) -> np.ndarray:
    points = finite_array(name, x)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise InputError(f"{name} must be points [n, 2], n ≥ 1, got shape {points.shape}")
    return points


def _running_median(points: np.ndarray, *, most: int = 300) -> np.ndarray:
    """Running medians ``[≤ most, 2]`` of y at evenly spread points of ``[n, 2]``, sorted by x."""
    n, half = len(points), len(points) // 40
    centres = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))
    windows = (points[max(0, i - half) : i + half + 1, 1] for i in centres)
    return np.stack([points[centres, 0], [np.median(window) for window in windows]], axis=1)


def _plain(axes: "Axes") -> None:
    """A light grid behind the data, quiet spines, readable labels."""
    axes.set_axisbelow(True)
    axes.grid(True, which="major", color=GRID, linewidth=0.7)
    axes.tick_params(which="both", labelsize=9, colors=INK, length=3, color=SPINE)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(SPINE)
