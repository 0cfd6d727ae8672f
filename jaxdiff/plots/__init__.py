"""L7: pictures, each one PNG that is written atomically, and figures for a web page."""

from jaxdiff.plots.charts import curve, curve_figure, lines_figure, scatter
from jaxdiff.plots.figures import (
    DATA,
    INK,
    SAMPLES,
    as_svg,
    check_backend,
    new_figure,
    save_figure,
)
from jaxdiff.plots.images import BORDER, image_grid, image_grid_png, trajectory_strip

__all__ = [
    "BORDER",
    "DATA",
    "INK",
    "SAMPLES",
    "as_svg",
    "check_backend",
    "curve",
    "curve_figure",
    "image_grid",
    "image_grid_png",
    "lines_figure",
    "new_figure",
    "save_figure",
    "scatter",
    "trajectory_strip",
]
