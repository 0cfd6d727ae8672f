"""Charts of numbers: points of the plane next to the data, and a logged quantity over the steps."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdiff.checks import finite_array
from jaxdiff.plots.figures import DATA, INK, SAMPLES, PathLike, new_figure, save_figure
from jaxdiff.typing import ArrayLike, InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes


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
    save_figure(figure, path)


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
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.7)
    axes.tick_params(labelsize=9, colors=INK, length=3, color="#bbbbbb")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bbbbbb")
