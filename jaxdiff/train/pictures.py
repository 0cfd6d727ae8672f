"""L7: the four pictures of a run, each one PNG that is written whole or not at all.

Pixels map linearly, low to black and high to white, clipped:

    byte = round(255 · (x − low) / (high − low)).

Matplotlib is used by its objects on an Agg canvas, never by pyplot: nothing global, no display, and
nothing to close. It and PIL are imported by the functions that draw.
"""

import io
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxdiff.extras import require
from jaxdiff.files import atomic_write
from jaxdiff.metrics.features import finite_array
from jaxdiff.typing import ArrayLike, InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PathLike = str | os.PathLike
BORDER = 128
"""Grey of the lines between images, apart from both black and white."""
WIDTH = 640
"""Pixels that a grid of small images is magnified to, about."""
INK, DATA, SAMPLES = "#333333", "#7a8793", "#1f6fb4"


def image_grid(
    path: PathLike,
    x: ArrayLike,
    *,
    value_range: tuple[float, float],
    columns: int | None = None,
    scale: int | None = None,
) -> None:
    """Draw images row by row, magnified by nearest neighbour, half a pixel of border around each.

    Args:
        path: the PNG to write.
        x: ``[n, H, W, C]``, C being 1 or 3.
        value_range: ``(low, high)``, the values drawn black and white.
        columns: images in a row; by default ⌈√n⌉.
        scale: whole factor of magnification; by default what makes the picture about 640 px wide.

    Raises:
        InputError: if shapes, range, columns or scale make no picture, or ``x`` is not finite.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = tempfile.mkdtemp() + "/grid.png"
        >>> image_grid(path, np.zeros((4, 8, 8, 1)), value_range=(-1, 1), scale=2)
        >>> np.asarray(Image.open(path)).shape  # 2 images of 16 px, 3 borders
        (35, 35)
    """
    require("PIL", purpose="writing an image")
    from PIL import Image

    images = _bytes(x, value_range)
    n, height, width, channels = images.shape
    columns = math.ceil(math.sqrt(n)) if columns is None else _positive("columns", columns)
    fitting = max(1, round(WIDTH / (columns * (width + 0.5))))
    scale = fitting if scale is None else _positive("scale", scale)
    rows, (height, width) = math.ceil(n / columns), (height * scale, width * scale)
    gap = max(1, scale // 2)
    down, right = height + gap, width + gap
    canvas = np.full((rows * down + gap, columns * right + gap, channels), BORDER, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * down + gap, (i % columns) * right + gap
        canvas[top : top + height, left : left + width] = image.repeat(scale, 0).repeat(scale, 1)
    png = io.BytesIO()
    Image.fromarray(canvas[..., 0] if channels == 1 else canvas).save(png, format="PNG")
    atomic_write(path, png.getvalue())


def trajectory_strip(path: PathLike, saved: ArrayLike, *, value_range: tuple[float, float]) -> None:
    """Draw how samples came to be: a row for each sample, a column for each saved step.

    Args:
        path: the PNG to write.
        saved: ``[steps, n, H, W, C]``, as ``jaxdiff.trajectory`` saves it.
        value_range: ``(low, high)``; noise beyond it is clipped.

    Raises:
        InputError: as ``image_grid`` does.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> path = tempfile.mkdtemp() + "/strip.png"
        >>> trajectory_strip(path, np.zeros((10, 2, 8, 8, 3)), value_range=(0, 1))
        >>> np.asarray(Image.open(path)).shape  # 2 rows, 10 columns of 64 px, and their borders
        (140, 684, 3)
    """
    saved = np.asarray(saved)
    if saved.ndim != 5 or saved.size == 0:
        raise InputError(
            f"saved must be [steps, n, H, W, C] and not empty, got the shape {saved.shape}"
        )
    rows = saved.swapaxes(0, 1).reshape(-1, *saved.shape[2:])
    image_grid(path, rows, value_range=value_range, columns=len(saved))


def scatter(path: PathLike, samples: ArrayLike, *, reference: ArrayLike | None = None) -> None:
    """Draw points of the plane, beside the data if there are any, on the same axes.

    With a reference the window is the data's, 1.4 times as wide, so that one stray sample does
    not shrink the rest to a dot; the title counts those outside.

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
    """Draw a logged quantity: every point faint, their running median bold.

    The median is over a window of 1/20 of the points, shorter at both ends; outliers do not move
    it, and it does not lag. Rows without a finite x and y are left out, and the title counts those
    that had a y.

    Args:
        path: the PNG to write.
        rows: one mapping per logged step, as ``read_lines_json`` returns them.
        x: the name of what runs along the axis.
        y: the name of what is drawn.
        log: logarithmic y axis, where all values are positive; else it is linear.

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


def _bytes(x: ArrayLike, value_range: tuple[float, float]) -> np.ndarray:
    """Images ``[n, H, W, C]`` as uint8."""
    images = finite_array("x", x)
    low, high = value_range
    if images.ndim != 4 or images.shape[-1] not in (1, 3) or images.size == 0:
        raise InputError(f"x must be [n, H, W, 1 or 3] and not empty, got the shape {images.shape}")
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise InputError(f"value_range must be (low, high) with low < high, got {value_range}")
    return np.rint(255 * np.clip((images - low) / (high - low), 0, 1)).astype(np.uint8)


def _points(name: str, x: ArrayLike) -> np.ndarray:
    points = finite_array(name, x)
    if points.ndim != 2 or points.shape[1] != 2 or not len(points):
        raise InputError(f"{name} must be points [n, 2], n ≥ 1, got the shape {points.shape}")
    return points


def _positive(name: str, value: int) -> int:
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise InputError(f"{name} must be an integer of at least 1, got {value!r}")
    return int(value)


def _running_median(points: np.ndarray, *, most: int = 300) -> np.ndarray:
    """Medians ``[≤ most, 2]`` of y about evenly spread points of ``[n, 2]``, sorted by x."""
    n, half = len(points), len(points) // 40
    centres = np.unique(np.linspace(0, n - 1, min(n, most)).astype(int))
    windows = (points[max(0, i - half) : i + half + 1, 1] for i in centres)
    return np.stack([points[centres, 0], [np.median(window) for window in windows]], axis=1)


def check_backend() -> None:
    """Refuse a MPLBACKEND that matplotlib lacks: with it, it cannot even be imported.

    Raises:
        InputError: naming it.
    """
    backend = os.environ.get("MPLBACKEND")
    try:
        if backend:
            from matplotlib.rcsetup import validate_backend

            validate_backend(backend)
    except ValueError:
        raise InputError(
            f"MPLBACKEND must be a backend of matplotlib, such as Agg, got {backend!r}"
        ) from None


def new_figure(*, width: float, height: float) -> "Figure":
    """An empty figure of so many inches, on a canvas of its own."""
    require("matplotlib", purpose="drawing a figure")
    check_backend()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=110, facecolor="white", layout="tight")
    FigureCanvasAgg(figure)
    return figure


def _plain(axes: "Axes") -> None:
    """A light grid behind the data, quiet spines, readable labels."""
    axes.set_axisbelow(True)
    axes.grid(True, which="major", color="#e6e6e6", linewidth=0.7)
    axes.tick_params(labelsize=9, colors=INK, length=3, color="#bbbbbb")
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#bbbbbb")


def save_figure(figure: "Figure", path: PathLike) -> None:
    """Write a figure as a PNG, whole or not at all."""
    png = io.BytesIO()
    figure.savefig(png, format="png")
    atomic_write(path, png.getvalue())
